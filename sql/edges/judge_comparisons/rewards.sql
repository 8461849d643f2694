-- The scores that decide who is compared; a request names the text that was scored.
SELECT model AS upstream_partition, completion_id, request_id, reward
FROM rewards
WHERE track = 'controversial' AND (list_contains($completions_models, model) OR model = $policy)
