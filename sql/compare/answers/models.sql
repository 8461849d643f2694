-- Who wrote the chosen completions: pairs in A and in B.
WITH sides AS (
    SELECT policy, chosen_model_a AS model, 'A' AS side FROM compared WHERE kind <> 'new'
    UNION ALL
    SELECT policy, chosen_model_b, 'B' FROM compared WHERE kind <> 'gone'
)
SELECT
    policy,
    model,
    count(*) FILTER (side = 'A') AS pairs_a,
    count(*) FILTER (side = 'B') AS pairs_b,
    pairs_b - pairs_a AS difference
FROM sides
GROUP BY policy, model
ORDER BY policy, pairs_b DESC, pairs_a DESC, model
