-- The chosen reward exceeds the rejected one, and the texts differ.
SELECT policy, prompt_id, pair_index, chosen_reward, rejected_reward
FROM selected_pairs
WHERE NOT chosen_reward > rejected_reward
    OR chosen_normal_hash = rejected_normal_hash
    OR chosen_quantile < rejected_quantile
