-- Comparisons in which the judge gave too little probability to either answer. Requests that failed are told
-- (inference.max_failed_share judges them).
WITH lost AS (
    SELECT
        policy,
        request_id,
        CASE WHEN mass < $rewards_min_score_mass
            OR missing_reason IN ('no comparison: stop', 'no comparison: length') THEN 'uncompared'
            ELSE 'failed' END AS loss,
        left(regexp_replace(missing_reason, '\d+', 'N', 'g'), 120) AS reason
    FROM judge_comparisons
    WHERE missing_reason IS NOT NULL
)
SELECT
    policy AS part,
    NULL AS track,
    loss,
    CASE WHEN loss <> 'failed' THEN loss END AS limit_name,
    reason,
    count(*) AS lost,
    any_value(of_rows) AS of_rows,
    'request ' || min(request_id) AS example
FROM lost
JOIN (SELECT policy, count(*) AS of_rows FROM judge_comparisons GROUP BY policy) USING (policy)
GROUP BY ALL
