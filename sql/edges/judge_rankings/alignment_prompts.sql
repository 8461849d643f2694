-- What draws among equal scores go by.
SELECT prompt_id, prompt_hash
FROM alignment_prompts
WHERE track = 'controversial'
