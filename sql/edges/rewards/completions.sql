-- The answers that are scored.
SELECT model AS upstream_partition, completion_id, request_id, text_hash, finish_reason
FROM completions
WHERE model = $model
