-- The conversations that are counted.
SELECT prompt_id, messages_hash
FROM alignment_prompts
