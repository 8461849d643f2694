-- Prompts whose grade cannot be read from any answer.
SELECT
    NULL AS part,
    NULL AS track,
    'unparsable' AS loss,
    'unparsable' AS limit_name,
    CASE
        WHEN raw_answer IS NULL THEN 'no answer'
        WHEN finish_reason = 'length' THEN 'cut off by the limit of tokens'
        ELSE 'no JSON object with a grade'
    END AS reason,
    count(*) AS lost,
    (SELECT count(*) FROM controversy_labels) AS of_rows,
    'prompt ' || min(prompt_id) || coalesce(': ' || left(arg_min(raw_answer, prompt_id), 80), '') AS example
FROM controversy_labels
WHERE grade IS NULL
GROUP BY reason
