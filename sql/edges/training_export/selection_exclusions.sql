-- The prompts that gave no pair, which the data card tells.
SELECT policy AS upstream_partition, prompt_id, reason
FROM selection_exclusions
WHERE policy = $policy
