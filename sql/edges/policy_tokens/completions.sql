-- The answers that are counted, and what the engines counted.
SELECT model AS upstream_partition, completion_id, text_hash, prompt_tokens, text_tokens
FROM completions
WHERE list_contains($completions_models, model) OR model = $policy
