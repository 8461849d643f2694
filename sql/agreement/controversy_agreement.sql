-- The grades that are in use.
SELECT $controversy_model || '.' || $controversy_wording AS candidate, prompt_id, grade
FROM controversy_labels
