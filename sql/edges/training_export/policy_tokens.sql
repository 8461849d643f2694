-- How long the prompts of pairs are.
SELECT policy AS upstream_partition, completion_id, prompt_tokens
FROM policy_tokens
SEMI JOIN (SELECT chosen_completion_id AS completion_id FROM dpo_pairs WHERE policy = $policy) AS chosen
    USING (completion_id)
WHERE policy = $policy
