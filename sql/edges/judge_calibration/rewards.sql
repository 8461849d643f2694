-- The rewards of real answers to the drawn prompts.
SELECT model AS upstream_partition, completion_id, reward
FROM rewards
SEMI JOIN (
    SELECT prompt_id
    FROM (
        SELECT
            *,
            row_number() OVER (PARTITION BY track ORDER BY sample_key($seed, 'calibration', prompt_hash), prompt_id)
                AS draw
        FROM alignment_prompts
        WHERE track = $scorer OR $scorer = 'controversial'
    )
    WHERE draw <= $calibration_prompts
) AS drawn USING (prompt_id)
