-- The prompts that candidates are of.
SELECT prompt_id
FROM alignment_prompts
