-- Every completion of a model that has rewards has its row.
SELECT completions.completion_id, completions.model
FROM completions
ANTI JOIN rewards
    ON rewards.completion_id = completions.completion_id
    AND rewards.completion_request_id = completions.request_id
WHERE completions.model IN (SELECT DISTINCT model FROM rewards)
