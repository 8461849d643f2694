-- Answers that show no text or think aloud where the recipe rejects that, those that were cut off where that keeps them
-- out of selection, and requests that failed for good (which inference.max_failed_share judges).
WITH unusable AS (
    SELECT
        completion_id,
        model,
        CASE
            WHEN text_hash IS NULL AND reasoning IS NULL THEN 'failed'
            WHEN text_hash IS NULL OR normal_hash = normal_hash('') THEN 'empty'
            ELSE 'truncated'
        END AS loss,
        nullif(loss, 'failed') AS limit_name,
        CASE
            WHEN loss = 'truncated' THEN 'cut off by the limit of tokens'
            WHEN text_hash IS NULL AND reasoning IS NOT NULL THEN 'thinks aloud (reasoning: reject)'
            WHEN text_hash IS NULL THEN finish_reason
            WHEN reasoning IS NOT NULL THEN 'no visible text after its reasoning, ended by ' || finish_reason
            ELSE 'no visible text, ended by ' || finish_reason
        END AS reason
    FROM completions
    WHERE
        text_hash IS NULL
        OR normal_hash = normal_hash('')
        OR (finish_reason = 'length' AND NOT $selection_allow_truncated)
)
SELECT
    model AS part,
    track,
    loss,
    limit_name,
    reason,
    count(*) AS lost,
    any_value(of_rows) AS of_rows,
    'completion ' || min(completion_id) AS example
FROM unusable
JOIN completion_requests USING (completion_id, model)
JOIN (SELECT model, track, count(*) AS of_rows FROM completion_requests GROUP BY ALL) USING (model, track)
GROUP BY ALL
