-- Answers with a text that have no reward; apart from them, those whose judge gave the labels too little
-- probability (rewards.min_score_mass).
SELECT
    model AS part,
    track,
    CASE WHEN score_mass < $rewards_min_score_mass THEN 'massless' ELSE 'unscored' END AS loss,
    CASE WHEN score_mass < $rewards_min_score_mass THEN 'massless' ELSE 'unscored' END AS limit_name,
    CASE WHEN score_mass < $rewards_min_score_mass THEN missing_reason
        ELSE left(regexp_replace(missing_reason, '\d+', 'N', 'g'), 120) END AS reason,
    count(*) AS lost,
    any_value(of_rows) AS of_rows,
    'completion ' || min(completion_id) AS example
FROM rewards
JOIN (SELECT model, track, count(request_id) AS of_rows FROM rewards GROUP BY ALL) USING (model, track)
WHERE request_id IS NOT NULL AND reward IS NULL
GROUP BY ALL
