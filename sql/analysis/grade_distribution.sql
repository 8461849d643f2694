-- How are the grades of controversy spread, how many answers do not parse, and how many prompts
-- were asked more than once?
-- Page: controversy_labels as bars: grade, prompts, is_controversial
SELECT
    model AS grader,
    grade,
    parsed_as,
    is_controversial,
    count(*) AS prompts,
    round(count(*) / sum(count(*)) OVER (PARTITION BY model), 4) AS share,
    count(*) FILTER (attempts > 1) AS asked_again,
    max(attempts) AS most_attempts
FROM controversy_labels
GROUP BY model, grade, parsed_as, is_controversial
ORDER BY model, grade NULLS LAST, parsed_as, is_controversial
