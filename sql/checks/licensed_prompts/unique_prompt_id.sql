-- Each prompt_id stands once.
SELECT prompt_id, count(*) AS times
FROM licensed_prompts
GROUP BY prompt_id
HAVING count(*) > 1
