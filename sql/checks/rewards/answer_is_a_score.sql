-- What a scorer answered is a logit or weighs labels: a request of another kind gives no score.
SELECT completion_id, missing_reason
FROM rewards
WHERE missing_reason = 'no score: stop' AND label_logprobs IS NULL
