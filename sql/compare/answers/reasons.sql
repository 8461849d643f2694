-- The reasons: what is another in pairs that are changed, and why pairs are new or gone.
WITH sizes AS (
    SELECT
        policy,
        count(*) FILTER (kind <> 'new') AS pairs_a,
        count(*) FILTER (kind <> 'gone') AS pairs_b
    FROM compared
    GROUP BY policy
)
SELECT
    policy,
    kind,
    reason,
    count(*) AS pairs,
    CASE WHEN kind <> 'new' THEN round(pairs / nullif(pairs_a, 0), 4) END AS share_of_a,
    CASE WHEN kind <> 'gone' THEN round(pairs / nullif(pairs_b, 0), 4) END AS share_of_b
FROM compared
JOIN sizes USING (policy)
GROUP BY policy, kind, reason, pairs_a, pairs_b
ORDER BY policy, list_position(['kept', 'changed', 'new', 'gone'], kind), pairs DESC, reason
