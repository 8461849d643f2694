-- How long candidates are.
SELECT policy AS upstream_partition, completion_id, prompt_tokens, completion_tokens
FROM policy_tokens
WHERE policy = $policy
