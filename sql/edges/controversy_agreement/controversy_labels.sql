-- The grades.
SELECT prompt_id, grade
FROM controversy_labels
