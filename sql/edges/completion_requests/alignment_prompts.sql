-- The prompts that a model is asked about.
SELECT prompt_id, track, messages_hash
FROM alignment_prompts
