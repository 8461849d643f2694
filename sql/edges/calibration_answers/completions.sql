-- The standard answers that the controversial track's judge reads.
SELECT model AS upstream_partition, completion_id, request_id, text_hash
FROM completions
SEMI JOIN (
    SELECT prompt_id
    FROM alignment_prompts
    WHERE track = 'standard'
    ORDER BY sample_key($seed, 'calibration', prompt_hash), prompt_id
    LIMIT $calibration_prompts
) AS drawn USING (prompt_id)
WHERE $scorer = 'controversial' AND list_contains($completions_models, model)
