-- Each completion_id stands once.
SELECT completion_id, count(*) AS times
FROM completions
GROUP BY completion_id
HAVING count(*) > 1
