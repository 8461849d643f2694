-- The conversations that are answered.
SELECT prompt_id, messages_hash
FROM alignment_prompts
