-- What makes a candidate eligible, and its text.
SELECT model AS upstream_partition, completion_id, normal_hash, finish_reason
FROM completions
WHERE list_contains($completions_models, model) OR model = $policy
