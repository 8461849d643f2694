-- How often is a model's completion chosen, and how often rejected, when it is a candidate? Rates
-- are per candidate; win_rate is the share of its places in pairs that are the chosen one.
-- Page: dpo_pairs
WITH candidates AS (
    SELECT
        policy, track, model, variant,
        count(*) AS candidates,
        count(*) FILTER (ineligible_reason IS NULL) AS eligible
    FROM quantile_rewards
    GROUP BY policy, track, model, variant
),
sides AS (
    SELECT policy, track, chosen_model AS model, chosen_variant AS variant, true AS is_chosen
    FROM dpo_pairs
    UNION ALL
    SELECT policy, track, rejected_model, rejected_variant, false
    FROM dpo_pairs
),
selected AS (
    SELECT
        policy, track, model, variant,
        count(*) FILTER (is_chosen) AS chosen,
        count(*) FILTER (NOT is_chosen) AS rejected
    FROM sides
    GROUP BY policy, track, model, variant
)
SELECT
    policy,
    track,
    model,
    variant,
    candidates,
    eligible,
    coalesce(chosen, 0) AS chosen,
    coalesce(rejected, 0) AS rejected,
    round(coalesce(chosen, 0) / candidates, 4) AS chosen_rate,
    round(coalesce(rejected, 0) / candidates, 4) AS rejected_rate,
    round(chosen / nullif(chosen + rejected, 0), 4) AS win_rate
FROM candidates
LEFT JOIN selected USING (policy, track, model, variant)
ORDER BY policy, track, chosen_rate DESC, rejected_rate, model, variant
