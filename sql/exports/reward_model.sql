-- Pairs as TRL's RewardTrainer takes them. It has no column margin: that trainer would take it into its loss.
SELECT
    pair_id,
    prompt_id,
    prompt,
    chosen,
    rejected
FROM dpo_pairs
WHERE policy = $policy
