-- Who wrote the chosen completions: pairs in A and in B, and what became of those in A.
WITH counted AS (
    SELECT
        policy,
        chosen_model_a AS model,
        count(*) AS in_a,
        0 AS in_b,
        count(*) FILTER (kind = 'kept') AS kept,
        count(*) FILTER (kind = 'changed') AS changed,
        count(*) FILTER (kind = 'gone') AS gone,
        0 AS new
    FROM compared
    WHERE kind <> 'new'
    GROUP BY policy, model
    UNION ALL
    SELECT policy, chosen_model_b, 0, count(*), 0, 0, 0, count(*) FILTER (kind = 'new')
    FROM compared
    WHERE kind <> 'gone'
    GROUP BY policy, chosen_model_b
)
SELECT
    policy,
    model,
    sum(in_a)::BIGINT AS pairs_a,
    sum(in_b)::BIGINT AS pairs_b,
    pairs_b - pairs_a AS difference,
    sum(kept)::BIGINT AS kept,
    sum(changed)::BIGINT AS changed,
    sum(gone)::BIGINT AS gone,
    sum(new)::BIGINT AS new
FROM counted
GROUP BY policy, model
ORDER BY policy, pairs_b DESC, pairs_a DESC, model
