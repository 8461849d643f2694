-- Prompts whose grade cannot be read from any answer. Requests that failed are told (inference.max_failed_share
-- judges them).
SELECT
    NULL AS part,
    NULL AS track,
    CASE WHEN finish_reason IN ('stop', 'length') THEN 'unparsable' ELSE 'failed' END AS loss,
    CASE WHEN finish_reason IN ('stop', 'length') THEN 'unparsable' END AS limit_name,
    CASE finish_reason
        WHEN 'length' THEN 'cut off by the limit of tokens'
        WHEN 'stop' THEN 'no JSON object with a grade'
        ELSE finish_reason
    END AS reason,
    count(*) AS lost,
    (SELECT count(*) FROM controversy_labels) AS of_rows,
    'prompt ' || min(prompt_id) || coalesce(': ' || left(arg_min(raw_answer, prompt_id), 80), '') AS example
FROM controversy_labels
WHERE grade IS NULL
GROUP BY ALL
