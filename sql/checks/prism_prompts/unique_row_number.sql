-- Each row_number stands once.
SELECT row_number, count(*) AS times
FROM prism_prompts
GROUP BY row_number
HAVING count(*) > 1
