-- Every completion request of a model that has completions is answered, with its own answer.
SELECT completion_requests.completion_id, completion_requests.model
FROM completion_requests
ANTI JOIN completions USING (completion_id, request_id)
WHERE model IN (SELECT DISTINCT model FROM completions)
