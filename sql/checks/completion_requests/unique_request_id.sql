-- Each request is made once.
SELECT request_id, count(*) AS times
FROM completion_requests
GROUP BY request_id
HAVING count(*) > 1
