-- The candidates, also those that are not drawn.
SELECT
    policy AS upstream_partition, prompt_id, completion_id, normal_hash, reward, n_references, quantile, band,
    ineligible_reason
FROM quantile_rewards
WHERE policy = $policy
