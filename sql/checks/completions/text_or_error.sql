-- A finished completion has a text; one that failed for good has the reason.
SELECT completion_id, finish_reason, error
FROM completions
WHERE (finish_reason IN ('stop', 'length')) <> (text IS NOT NULL)
    OR (text IS NULL) <> (error IS NOT NULL)
    OR finish_reason NOT IN ('stop', 'length', 'context_length', 'rejected', 'failed')
