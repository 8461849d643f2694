-- Each prompt_id stands once for a candidate.
SELECT candidate, prompt_id, count(*) AS times
FROM grader_trials
GROUP BY candidate, prompt_id
HAVING count(*) > 1
