-- Where a policy has exclusions, every prompt with candidates gives a pair or stands among them.
SELECT DISTINCT policy, prompt_id
FROM quantile_rewards
ANTI JOIN selected_pairs USING (policy, prompt_id)
ANTI JOIN selection_exclusions USING (policy, prompt_id)
WHERE policy IN (SELECT DISTINCT policy FROM selection_exclusions)
