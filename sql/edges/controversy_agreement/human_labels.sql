-- People's grades.
SELECT row_number, prompt_id, label, malformed_reason
FROM human_labels
