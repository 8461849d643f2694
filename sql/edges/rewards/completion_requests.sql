-- The tracks that completions are scored on.
SELECT model AS upstream_partition, completion_id, track
FROM completion_requests
WHERE model = $model
