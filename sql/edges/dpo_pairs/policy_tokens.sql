-- How long the selected completions are.
SELECT policy AS upstream_partition, completion_id, completion_tokens
FROM policy_tokens
SEMI JOIN (
    SELECT unnest([chosen_completion_id, rejected_completion_id]) AS completion_id
    FROM selected_pairs
    WHERE policy = $policy
) AS selected USING (completion_id)
WHERE policy = $policy
