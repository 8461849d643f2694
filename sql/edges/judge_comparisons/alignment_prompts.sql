-- The prompts that the judge reads.
SELECT prompt_id, messages_hash
FROM alignment_prompts
WHERE track = 'controversial'
