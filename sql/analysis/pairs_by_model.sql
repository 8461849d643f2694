-- Whose answers are chosen, and whose are rejected? Places in pairs by model and side.
-- Page: dpo_pairs as bars: model, completions, side
WITH sides AS (
    SELECT policy, track, chosen_model AS model, 'chosen' AS side
    FROM dpo_pairs
    UNION ALL
    SELECT policy, track, rejected_model, 'rejected'
    FROM dpo_pairs
)
SELECT
    policy,
    track,
    model,
    side,
    count(*) AS completions,
    round(count(*) / sum(count(*)) OVER (PARTITION BY policy, track, side), 4) AS share_of_side
FROM sides
GROUP BY policy, track, model, side
ORDER BY policy, track, completions DESC, model, side
