-- Which scores do answers get as they are made worse, step by step?
-- Page: calibration_answers, judge_calibration as bars: step, mean_score, scorer
SELECT
    calibration_answers.scorer,
    calibration_answers.step || ' ' || any_value(step_name) AS step,
    count(value) AS scored,
    count(*) FILTER (value IS NULL) AS without_score,
    round(avg(round(value, 9)::DECIMAL(38, 9)), 4) AS mean_score,
    round(min(value), 4) AS lowest,
    round(max(value), 4) AS highest,
    round(avg(length(text)), 1) AS mean_characters
FROM calibration_answers
JOIN (SELECT scorer, rung_id AS completion_id, step_name, text FROM degraded_answers) AS rungs
    USING (scorer, completion_id)
WHERE asked_as = 'score'
GROUP BY calibration_answers.scorer, calibration_answers.step
ORDER BY calibration_answers.scorer, calibration_answers.step
