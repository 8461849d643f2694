-- The prompts that gave a pair.
SELECT policy AS upstream_partition, prompt_id
FROM selected_pairs
WHERE policy = $policy
