-- The answers that are asked about; of which those are, the tables of selection say.
SELECT model AS upstream_partition, completion_id, text_hash
FROM completions
WHERE list_contains($completions_models, model) OR model = $policy
