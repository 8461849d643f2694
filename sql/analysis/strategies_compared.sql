-- What does each strategy make of the same rewards? quantile_margin is the mean difference of a pair's quantiles,
-- chosen_longer the share of pairs whose chosen answer has more tokens, on_policy the share of chosen answers that the
-- policy wrote, same_pairs the share of pairs in common with the recipe's strategy and seed. The columns that end in
-- _before have what was when it was last another.
-- Page: selection_report
WITH told AS (
    SELECT
        *,
        CASE
            WHEN measure IN ('pairs', 'quantile_margin', 'chosen_longer') AND about = 'all' THEN measure
            WHEN measure = 'chosen' AND about = policy || ' reference' THEN 'on_policy'
            WHEN measure = 'same_pairs' AND about = $selection_strategy THEN measure
        END AS figure
    FROM selection_report
    WHERE strategy IS NOT NULL
)
SELECT
    policy,
    strategy,
    seed,
    max(value) FILTER (figure = 'pairs')::BIGINT AS pairs,
    round(max(value) FILTER (figure = 'quantile_margin'), 4) AS quantile_margin,
    round(max(value) FILTER (figure = 'chosen_longer'), 4) AS chosen_longer,
    round(coalesce(max(value) FILTER (figure = 'on_policy'), 0), 4) AS on_policy,
    round(max(value) FILTER (figure = 'same_pairs'), 4) AS same_pairs,
    max(previous_value) FILTER (figure = 'pairs')::BIGINT AS pairs_before,
    round(max(previous_value) FILTER (figure = 'quantile_margin'), 4) AS quantile_margin_before,
    round(max(previous_value) FILTER (figure = 'chosen_longer'), 4) AS chosen_longer_before
FROM told
GROUP BY policy, strategy, seed
ORDER BY policy, strategy, seed
