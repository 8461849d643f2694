-- Every pair rests on at least the recipe's number of reference rewards.
SELECT pair_id, len(reference_rewards) AS n_references
FROM dpo_pairs
WHERE len(reference_rewards) < $selection_min_references
