-- How long the candidates are.
SELECT policy AS upstream_partition, completion_id, completion_tokens
FROM policy_tokens
WHERE policy = $policy
