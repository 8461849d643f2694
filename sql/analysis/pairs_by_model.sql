-- Whose answers are chosen, and whose are rejected? Places in pairs by model, variant and side.
-- Page: dpo_pairs as bars: answered_by, completions, side
WITH sides AS (
    SELECT policy, track, chosen_model AS model, chosen_variant AS variant, 'chosen' AS side
    FROM dpo_pairs
    UNION ALL
    SELECT policy, track, rejected_model, rejected_variant, 'rejected'
    FROM dpo_pairs
)
SELECT
    policy,
    track,
    model,
    variant,
    side,
    count(*) AS completions,
    round(count(*) / sum(count(*)) OVER (PARTITION BY policy, track, side), 4) AS share_of_side,
    model || ' ' || variant AS answered_by
FROM sides
GROUP BY policy, track, model, variant, side
ORDER BY policy, track, completions DESC, model, variant, side
