-- The prompts whose rewards are looked at.
SELECT prompt_id
FROM alignment_prompts
WHERE track = $scorer
ORDER BY sample_key($seed, 'calibration', prompt_hash), prompt_id
LIMIT $calibration_prompts
