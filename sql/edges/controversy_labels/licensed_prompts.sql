-- The prompts that the grader reads.
SELECT dataset_order, prompt_id, messages_hash
FROM licensed_prompts
WHERE track = 'graded'
