-- Which rows of the prompt sources could not be read? Of each reason one row, with what is wrong in it. row_id is
-- its prompt_id.
-- Page: source_prompts as texts
SELECT
    min(prompt_id) AS row_id,
    min(prompt_id) AS prompt_id,
    dataset,
    malformed_reason,
    count(*) AS rows_malformed,
    arg_min(row_number, source_prompts.prompt_id) AS row_number,
    left(arg_min_null(malformed_detail, source_prompts.prompt_id), 400) AS malformed_detail
FROM source_prompts
WHERE malformed_reason IS NOT NULL
GROUP BY dataset, malformed_reason
ORDER BY dataset, rows_malformed DESC, malformed_reason
