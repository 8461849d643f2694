-- Which of those are beyond the limit.
SELECT dataset, row_number, prompt_id
FROM prompt_exclusions
SEMI JOIN (FROM human_labels WHERE malformed_reason IS NULL AND messages IS NULL) AS named USING (prompt_id)
WHERE rule = 'limit'
