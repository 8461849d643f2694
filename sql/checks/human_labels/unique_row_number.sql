-- Each row_number stands once.
SELECT row_number, count(*) AS times
FROM human_labels
GROUP BY row_number
HAVING count(*) > 1
