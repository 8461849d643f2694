-- Whose answers does each strategy choose and reject? The share of a side that each model and variant has, by the
-- recipe's seed.
-- Page: selection_report as bars: answered_by, chosen, strategy
SELECT
    policy,
    strategy,
    about AS answered_by,
    round(coalesce(max(value) FILTER (measure = 'chosen'), 0), 4) AS chosen,
    round(coalesce(max(value) FILTER (measure = 'rejected'), 0), 4) AS rejected
FROM selection_report
WHERE measure IN ('chosen', 'rejected') AND seed = $seed
GROUP BY policy, strategy, about
ORDER BY policy, strategy, chosen DESC, answered_by
