-- What became of pairs, by who wrote the chosen completion: in A, and of new ones in B.
SELECT
    policy,
    coalesce(chosen_model_a, chosen_model_b) AS model,
    count(*) FILTER (kind = 'kept') AS kept,
    count(*) FILTER (kind = 'changed') AS changed,
    count(*) FILTER (kind = 'gone') AS gone,
    count(*) FILTER (kind = 'new') AS new
FROM compared
GROUP BY policy, model
ORDER BY policy, model
