-- Rows that are no usable persona.
SELECT
    NULL AS part,
    NULL AS track,
    'malformed' AS loss,
    'malformed' AS limit_name,
    malformed_reason AS reason,
    count(*) AS lost,
    (SELECT count(*) FROM personas) AS of_rows,
    'row ' || min(row_number) || coalesce(': ' || arg_min(malformed_detail, row_number), '') AS example
FROM personas
WHERE malformed_reason IS NOT NULL
GROUP BY malformed_reason
