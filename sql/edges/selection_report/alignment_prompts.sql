-- The prompts that candidates are of, and their languages.
SELECT prompt_id, language
FROM alignment_prompts
