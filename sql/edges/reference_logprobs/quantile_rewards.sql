-- The candidates that are not too long.
SELECT policy AS upstream_partition, completion_id, normal_hash, ineligible_reason
FROM quantile_rewards
WHERE policy = $policy AND $reference_logprobs_scope = 'candidates'
