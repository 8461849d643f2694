-- The pairs with their texts.
SELECT policy AS upstream_partition, * EXCLUDE (policy)
FROM dpo_pairs
WHERE policy = $policy
