-- The answers that are made worse.
SELECT model AS upstream_partition, completion_id, request_id, text_hash, variant, sample_index
FROM completions
SEMI JOIN (
    SELECT prompt_id
    FROM alignment_prompts
    WHERE track = $scorer
    ORDER BY sample_key($seed, 'calibration', prompt_hash), prompt_id
    LIMIT $calibration_prompts
) AS drawn USING (prompt_id)
WHERE model = $calibration_model
