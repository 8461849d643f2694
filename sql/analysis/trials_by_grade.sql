-- Which grades do candidates for the grader give to the prompts that people have labelled, and which do people give?
-- Page: grader_trials as bars: grade, prompts, who
-- A person counts once a prompt, by the last label; a label without a name is a person's of its own.
WITH counted AS (
    SELECT *
    FROM human_labels
    WHERE malformed_reason IS NULL
    QUALIFY annotator IS NULL
        OR row_number = max(row_number) OVER (PARTITION BY prompt_id, annotator)
)
SELECT
    candidate AS who,
    coalesce(grade::VARCHAR, 'none') AS grade,
    count(*) AS prompts
FROM grader_trials
GROUP BY ALL
UNION ALL
SELECT 'people, in the median', median::VARCHAR, count(*)
FROM (
    SELECT prompt_id, quantile_disc(label, 0.5) AS median
    FROM counted
    GROUP BY prompt_id
)
WHERE EXISTS (FROM grader_trials)
GROUP BY ALL
ORDER BY who, grade
