-- The rewards of references.
SELECT policy AS upstream_partition, completion_id, reward, ineligible_reason
FROM quantile_rewards
WHERE policy = $policy AND model = $policy AND variant = 'reference'
