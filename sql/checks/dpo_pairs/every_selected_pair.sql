-- Where a policy has pairs with texts, every selected pair is among them, with the same completions.
SELECT policy, prompt_id, pair_index
FROM selected_pairs
ANTI JOIN dpo_pairs USING (policy, prompt_id, pair_index, chosen_completion_id, rejected_completion_id)
WHERE policy IN (SELECT DISTINCT policy FROM dpo_pairs)
