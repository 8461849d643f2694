-- Every completion of a model that has rewards has its row.
SELECT completions.completion_id, completions.model
FROM completions
ANTI JOIN rewards USING (completion_id)
WHERE completions.model IN (SELECT DISTINCT model FROM rewards)
