-- The pairs.
SELECT policy AS upstream_partition, * EXCLUDE (policy)
FROM selected_pairs
WHERE policy = $policy
