-- Every row of the recipe's sources is licensed or excluded, and none is both. A source that is named without
-- a row has not been read: materialize its partition of source_prompts first.
SELECT dataset, row_number
FROM (SELECT unnest($prompts).name AS dataset)
LEFT JOIN source_prompts USING (dataset)
LEFT JOIN (SELECT dataset, row_number, 1 AS licensed FROM licensed_prompts) USING (dataset, row_number)
LEFT JOIN (SELECT dataset, row_number, 1 AS excluded FROM prompt_exclusions) USING (dataset, row_number)
WHERE coalesce(licensed, 0) + coalesce(excluded, 0) <> 1
