-- The samples with their texts.
SELECT policy AS upstream_partition, * EXCLUDE (policy)
FROM qrpo_samples
WHERE policy = $policy
