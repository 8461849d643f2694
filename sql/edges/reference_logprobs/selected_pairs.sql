-- The pairs, whatever their rewards.
SELECT policy AS upstream_partition, chosen_completion_id, rejected_completion_id
FROM selected_pairs
WHERE policy = $policy AND $reference_logprobs_scope = 'selected'
