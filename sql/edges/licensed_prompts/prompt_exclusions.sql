-- Which rows are dropped.
SELECT dataset, row_number
FROM prompt_exclusions
