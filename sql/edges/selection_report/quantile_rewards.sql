-- The candidates, also those that no strategy draws.
SELECT
    policy AS upstream_partition, prompt_id, completion_id, track, model, variant, normal_hash, reward, n_references,
    quantile, band, ineligible_reason
FROM quantile_rewards
WHERE policy = $policy
