-- The requests, each named by all that its answer depends on.
SELECT model AS upstream_partition, completion_id, request_id, prompt_id, variant, sample_index
FROM completion_requests
WHERE model = $model
