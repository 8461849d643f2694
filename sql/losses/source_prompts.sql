-- Rows of a source that are no usable prompt.
SELECT
    dataset AS part,
    NULL AS track,
    'malformed' AS loss,
    'malformed' AS limit_name,
    malformed_reason AS reason,
    count(*) AS lost,
    any_value(of_rows) AS of_rows,
    'row ' || min(row_number) || coalesce(': ' || arg_min(malformed_detail, row_number), '') AS example
FROM source_prompts
JOIN (SELECT dataset, count(*) AS of_rows FROM source_prompts GROUP BY dataset) USING (dataset)
WHERE malformed_reason IS NOT NULL
GROUP BY dataset, malformed_reason
