-- The prompts that a judge reads with them; the controversial track's judge reads standard ones, too.
SELECT prompt_id, track, messages_hash
FROM (
    SELECT
        *,
        row_number() OVER (PARTITION BY track ORDER BY sample_key($seed, 'calibration', prompt_hash), prompt_id) AS draw
    FROM alignment_prompts
    WHERE track = $scorer OR $scorer = 'controversial'
)
WHERE draw <= $calibration_prompts
