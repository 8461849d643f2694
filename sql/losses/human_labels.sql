-- Rows that are no usable label.
SELECT
    NULL AS part,
    NULL AS track,
    'malformed' AS loss,
    'malformed' AS limit_name,
    malformed_reason AS reason,
    count(*) AS lost,
    (SELECT count(*) FROM human_labels) AS of_rows,
    'row ' || min(row_number) || coalesce(': ' || arg_min(malformed_detail, row_number), '') AS example
FROM human_labels
WHERE malformed_reason IS NOT NULL
GROUP BY malformed_reason
