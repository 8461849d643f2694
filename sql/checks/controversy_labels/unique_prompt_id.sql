-- Each prompt_id stands once.
SELECT prompt_id, count(*) AS times
FROM controversy_labels
GROUP BY prompt_id
HAVING count(*) > 1
