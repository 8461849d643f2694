-- What the policy says of the selected completions.
SELECT policy AS upstream_partition, completion_id, logprob, prompt_tokens, completion_tokens, missing_reason
FROM reference_logprobs
WHERE policy = $policy
