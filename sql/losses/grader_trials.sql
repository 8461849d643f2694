-- Labelled prompts that a candidate gave no grade, and those it was not asked about. The gate judges the former by
-- limits.unparsable.
SELECT
    candidate AS part,
    NULL AS track,
    CASE WHEN finish_reason IN ('stop', 'length') THEN 'unparsable' ELSE 'failed' END AS loss,
    NULL AS limit_name,
    CASE finish_reason
        WHEN 'length' THEN 'cut off by the limit of tokens'
        WHEN 'stop' THEN 'no JSON object with a grade'
        ELSE finish_reason
    END AS reason,
    count(*) AS lost,
    (SELECT count(*) FROM grader_trials AS all_of_it WHERE all_of_it.candidate = grader_trials.candidate) AS of_rows,
    'prompt ' || min(prompt_id) || coalesce(': ' || left(arg_min(raw_answer, prompt_id), 80), '') AS example
FROM grader_trials
WHERE grade IS NULL
GROUP BY ALL
UNION ALL
SELECT
    candidate,
    NULL,
    'untried labels',
    NULL,
    'the label has an id alone, and no admitted row of a source has that prompt',
    count(*),
    (SELECT count(DISTINCT prompt_id) FROM human_labels WHERE malformed_reason IS NULL),
    'prompt ' || min(labelled.prompt_id)
FROM (SELECT DISTINCT candidate FROM grader_trials)
CROSS JOIN (SELECT DISTINCT prompt_id FROM human_labels WHERE malformed_reason IS NULL) AS labelled
ANTI JOIN grader_trials USING (candidate, prompt_id)
GROUP BY candidate
