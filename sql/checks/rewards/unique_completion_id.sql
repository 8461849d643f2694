-- Each completion_id stands once.
SELECT completion_id, count(*) AS times
FROM rewards
GROUP BY completion_id
HAVING count(*) > 1
