-- What is said of them.
SELECT scorer AS upstream_partition, asked_as, completion_id, second_completion_id, value, mass
FROM calibration_answers
WHERE scorer = $scorer
