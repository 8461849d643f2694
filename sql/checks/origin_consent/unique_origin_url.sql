-- Each origin_url stands once.
SELECT origin_url, count(*) AS times
FROM origin_consent
GROUP BY origin_url
HAVING count(*) > 1
