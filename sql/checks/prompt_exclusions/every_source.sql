-- Every source of the recipe has been read; where one is named here, materialize its partition of
-- source_prompts first.
SELECT dataset
FROM (SELECT unnest($prompts).name AS dataset)
WHERE dataset NOT IN (SELECT dataset FROM source_prompts)
