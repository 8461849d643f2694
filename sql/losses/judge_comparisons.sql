-- Comparisons in which the judge gave too little probability to either answer.
SELECT
    policy AS part,
    NULL AS track,
    'uncompared' AS loss,
    'uncompared' AS limit_name,
    left(regexp_replace(missing_reason, '\d+', 'N', 'g'), 120) AS reason,
    count(*) AS lost,
    any_value(of_rows) AS of_rows,
    'request ' || min(request_id) AS example
FROM judge_comparisons
JOIN (SELECT policy, count(*) AS of_rows FROM judge_comparisons GROUP BY policy) USING (policy)
WHERE missing_reason IS NOT NULL
GROUP BY ALL
