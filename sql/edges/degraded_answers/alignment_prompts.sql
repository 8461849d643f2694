-- The prompts that are drawn.
SELECT prompt_id, messages_hash
FROM alignment_prompts
WHERE track = $scorer
ORDER BY sample_key($seed, 'calibration', prompt_hash), prompt_id
LIMIT $calibration_prompts
