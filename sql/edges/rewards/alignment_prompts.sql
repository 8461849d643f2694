-- The prompts that a scorer reads.
SELECT prompt_id, track, messages_hash
FROM alignment_prompts
