-- Each row_number stands once.
SELECT row_number, count(*) AS times
FROM personas
GROUP BY row_number
HAVING count(*) > 1
