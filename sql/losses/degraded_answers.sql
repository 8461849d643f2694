-- Steps of which no text came that is another than before: no scorer is tried on them.
SELECT
    scorer AS part,
    NULL AS track,
    'rungs' AS loss,
    NULL AS limit_name,
    step_name || ': ' || missing_reason AS reason,
    count(*) AS lost,
    (SELECT count(*) FROM degraded_answers AS all_of_it WHERE all_of_it.scorer = degraded_answers.scorer) AS of_rows,
    'prompt ' || min(prompt_id) AS example
FROM degraded_answers
WHERE missing_reason IS NOT NULL
GROUP BY ALL
