-- The chosen reward exceeds the rejected one, and the texts differ.
SELECT pair_id, chosen_reward, rejected_reward
FROM dpo_pairs
WHERE NOT chosen_reward > rejected_reward
    OR chosen[1].content = rejected[1].content
    OR chosen_quantile < rejected_quantile
