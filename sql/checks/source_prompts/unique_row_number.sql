-- Each row_number stands once in a source.
SELECT dataset, row_number, count(*) AS times
FROM source_prompts
GROUP BY ALL
HAVING count(*) > 1
