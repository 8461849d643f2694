-- What draws go by.
SELECT prompt_id, prompt_hash
FROM alignment_prompts
