-- A row is dropped once, by one rule.
SELECT dataset, row_number, count(*) AS times
FROM prompt_exclusions
GROUP BY ALL
HAVING count(*) > 1
