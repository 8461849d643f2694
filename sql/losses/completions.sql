-- Answers that show no text or think aloud where the recipe rejects that, and requests that failed for good (which
-- inference.max_failed_share judges).
WITH without_text AS (
    SELECT
        completion_id,
        model,
        CASE WHEN text_hash IS NULL AND reasoning IS NULL THEN 'failed' ELSE 'empty' END AS loss,
        CASE WHEN text_hash IS NOT NULL OR reasoning IS NOT NULL THEN 'empty' END AS limit_name,
        CASE
            WHEN text_hash IS NULL AND reasoning IS NOT NULL THEN 'thinks aloud (reasoning: reject)'
            WHEN text_hash IS NULL THEN finish_reason
            WHEN reasoning IS NOT NULL THEN 'no visible text after its reasoning, ended by ' || finish_reason
            ELSE 'no visible text, ended by ' || finish_reason
        END AS reason
    FROM completions
    WHERE text_hash IS NULL OR normal_hash = normal_hash('')
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
FROM without_text
JOIN completion_requests USING (completion_id, model)
JOIN (SELECT model, track, count(*) AS of_rows FROM completion_requests GROUP BY ALL) USING (model, track)
GROUP BY ALL
