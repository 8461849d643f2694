-- A label is 0 to 3, or the reason why it cannot be used stands beside it.
SELECT row_number, label, malformed_reason
FROM human_labels
WHERE (label IS NULL) <> (malformed_reason IS NOT NULL) OR label NOT BETWEEN 0 AND 3
