-- The tracks of graded prompts.
SELECT prompt_id, is_controversial
FROM controversy_labels
