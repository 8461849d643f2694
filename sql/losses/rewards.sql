-- Answers with a text that have no reward: those of whose labels the judge gave too little probability
-- (rewards.min_score_mass), and other answers without a score. Requests that failed are told
-- (inference.max_failed_share judges them).
WITH lost AS (
    SELECT
        completion_id,
        model,
        track,
        CASE
            WHEN score_mass < $rewards_min_score_mass THEN 'massless'
            WHEN missing_reason IN ('no score: stop', 'no score: length') THEN 'unscored'
            ELSE 'failed'
        END AS loss,
        left(regexp_replace(missing_reason, '\d+', 'N', 'g'), 120) AS reason
    FROM rewards
    WHERE request_id IS NOT NULL AND reward IS NULL
)
SELECT
    model AS part,
    track,
    loss,
    CASE WHEN loss <> 'failed' THEN loss END AS limit_name,
    reason,
    count(*) AS lost,
    any_value(of_rows) AS of_rows,
    'completion ' || min(completion_id) AS example
FROM lost
JOIN (SELECT model, track, count(request_id) AS of_rows FROM rewards GROUP BY ALL) USING (model, track)
GROUP BY ALL
