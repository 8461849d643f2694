-- Their lengths.
SELECT model AS upstream_partition, completion_id, text_hash
FROM completions
SEMI JOIN (
    SELECT prompt_id
    FROM alignment_prompts
    WHERE track = $scorer
    ORDER BY sample_key($seed, 'calibration', prompt_hash), prompt_id
    LIMIT $calibration_prompts
) AS drawn USING (prompt_id)
