-- The grades of all who were tried.
SELECT candidate, prompt_id, grade
FROM grader_trials
WHERE list_contains($candidates::VARCHAR[], candidate)
