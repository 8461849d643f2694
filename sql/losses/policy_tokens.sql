-- Candidates whose tokens cannot be counted, and which are in no pair for that: the chat template refuses them, say.
SELECT
    policy AS part,
    NULL AS track,
    'uncounted' AS loss,
    'uncounted' AS limit_name,
    left(regexp_replace(missing_reason, '\d+', 'N', 'g'), 120) AS reason,
    count(*) AS lost,
    any_value(of_rows) AS of_rows,
    'completion ' || min(completion_id) AS example
FROM policy_tokens
JOIN (SELECT policy, count(*) AS of_rows FROM policy_tokens GROUP BY ALL) USING (policy)
WHERE missing_reason IS NOT NULL
GROUP BY ALL
