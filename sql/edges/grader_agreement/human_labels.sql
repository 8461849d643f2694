-- People's grades.
SELECT row_number, prompt_id, annotator, label, malformed_reason
FROM human_labels
