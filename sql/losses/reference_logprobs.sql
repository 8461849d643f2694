-- Completions of which the policy told no log-probability (inference.max_failed_share judges them).
SELECT
    policy AS part,
    NULL AS track,
    'failed' AS loss,
    NULL AS limit_name,
    left(regexp_replace(missing_reason, '\d+', 'N', 'g'), 120) AS reason,
    count(*) AS lost,
    any_value(of_rows) AS of_rows,
    'completion ' || min(completion_id) AS example
FROM reference_logprobs
JOIN (SELECT policy, count(*) AS of_rows FROM reference_logprobs GROUP BY ALL) USING (policy)
WHERE missing_reason IS NOT NULL
GROUP BY ALL
