-- The counts that log-probabilities have to be of.
SELECT policy AS upstream_partition, completion_id, prompt_tokens, completion_tokens
FROM policy_tokens
WHERE policy = $policy AND $reference_logprobs_scope <> 'none'
