-- The prompts of which labels have the id alone.
SELECT dataset, row_number, prompt_id, messages_hash
FROM licensed_prompts
SEMI JOIN (FROM human_labels WHERE malformed_reason IS NULL AND messages IS NULL) AS named USING (prompt_id)
