-- Every licensed prompt of a graded source has a label.
SELECT licensed_prompts.prompt_id
FROM licensed_prompts
ANTI JOIN controversy_labels USING (prompt_id)
WHERE track = 'graded'
