-- Pairs that are kept, changed, new or gone: how many, and which share of A's and of B's pairs.
WITH sizes AS (
    SELECT
        policy,
        count(*) FILTER (kind <> 'new') AS pairs_a,
        count(*) FILTER (kind <> 'gone') AS pairs_b
    FROM compared
    GROUP BY policy
),
kinds AS (
    SELECT unnest(['kept', 'changed', 'new', 'gone']) AS kind
)
SELECT
    policy,
    kind,
    count(pair_id) AS pairs,
    CASE WHEN kind <> 'new' THEN round(pairs / nullif(pairs_a, 0), 4) END AS share_of_a,
    CASE WHEN kind <> 'gone' THEN round(pairs / nullif(pairs_b, 0), 4) END AS share_of_b
FROM sizes
CROSS JOIN kinds
LEFT JOIN compared USING (policy, kind)
GROUP BY policy, kind, pairs_a, pairs_b
ORDER BY policy, list_position(['kept', 'changed', 'new', 'gone'], kind)
