-- A sample's quantile is the share of its reference rewards that are not above its reward.
SELECT sample_id, reward, quantile
FROM qrpo_samples
WHERE abs(quantile - len(list_filter(reference_rewards, lambda s: s <= reward)) / len(reference_rewards)) > 1e-9
