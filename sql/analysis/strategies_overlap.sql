-- How many pairs do two strategies, or two seeds, have in common? same_pairs is of all pairs that either draws,
-- same_chosen and same_rejected of the first one's completions on that side.
-- Page: selection_report
SELECT
    policy,
    strategy,
    seed,
    about AS other,
    round(max(value) FILTER (measure = 'same_pairs'), 4) AS same_pairs,
    round(max(value) FILTER (measure = 'same_chosen'), 4) AS same_chosen,
    round(max(value) FILTER (measure = 'same_rejected'), 4) AS same_rejected
FROM selection_report
WHERE measure IN ('same_pairs', 'same_chosen', 'same_rejected')
GROUP BY policy, strategy, seed, about
ORDER BY policy, strategy, seed, other
