-- Every licensed prompt has a label.
SELECT licensed_prompts.prompt_id
FROM licensed_prompts
ANTI JOIN controversy_labels USING (prompt_id)
