-- The candidates and their scores.
SELECT model AS upstream_partition, completion_id, prompt_id, track, variant, reward
FROM rewards
WHERE list_contains($completions_models, model) OR model = $policy
