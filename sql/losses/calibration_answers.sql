-- What a scorer or judge gave no value.
SELECT
    scorer AS part,
    asked_as AS track,
    'unscored' AS loss,
    NULL AS limit_name,
    left(regexp_replace(missing_reason, '\d+', 'N', 'g'), 120) AS reason,
    count(*) AS lost,
    any_value(of_rows) AS of_rows,
    'prompt ' || min(prompt_id) AS example
FROM calibration_answers
JOIN (SELECT scorer, asked_as, count(*) AS of_rows FROM calibration_answers GROUP BY ALL) USING (scorer, asked_as)
WHERE missing_reason IS NOT NULL
GROUP BY ALL
