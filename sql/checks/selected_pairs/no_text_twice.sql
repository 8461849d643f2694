-- Two pairs of a prompt have different chosen texts and different rejected texts.
SELECT policy, prompt_id, 'chosen' AS side
FROM selected_pairs
GROUP BY policy, prompt_id, chosen_normal_hash
HAVING min(pair_index) < max(pair_index)
UNION ALL
SELECT policy, prompt_id, 'rejected'
FROM selected_pairs
GROUP BY policy, prompt_id, rejected_normal_hash
HAVING min(pair_index) < max(pair_index)
