-- Each completion is asked for once.
SELECT completion_id, count(*) AS times
FROM completion_requests
GROUP BY completion_id
HAVING count(*) > 1
