-- Each prompt_id stands once in a source.
SELECT dataset, prompt_id, count(*) AS times
FROM licensed_prompts
GROUP BY ALL
HAVING count(*) > 1
