-- The selected completions' texts.
SELECT model AS upstream_partition, completion_id, text_hash
FROM completions
SEMI JOIN (
    SELECT unnest([chosen_completion_id, rejected_completion_id]) AS completion_id
    FROM selected_pairs
    WHERE policy = $policy
) AS selected USING (completion_id)
