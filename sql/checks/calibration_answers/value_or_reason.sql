-- An answer has a value, or the reason why it has none.
SELECT scorer, request_id, value, missing_reason
FROM calibration_answers
WHERE (value IS NULL) <> (missing_reason IS NOT NULL)
