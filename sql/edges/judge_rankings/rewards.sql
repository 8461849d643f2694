-- The scores that candidates are ordered by.
SELECT model AS upstream_partition, completion_id, reward
FROM rewards
WHERE track = 'controversial' AND (list_contains($completions_models, model) OR model = $policy)
