-- The prompts' texts.
SELECT prompt_id, messages_hash
FROM alignment_prompts
