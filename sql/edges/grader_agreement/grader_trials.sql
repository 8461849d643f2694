-- The candidates' grades.
SELECT candidate AS upstream_partition, prompt_id, grade
FROM grader_trials
