-- Each threshold stands once.
SELECT threshold, count(*) AS times
FROM controversy_agreement
GROUP BY threshold
HAVING count(*) > 1
