-- Pairs with the columns of the original QRPO trainer: both sides as whole conversations.
SELECT
    pair_id,
    prompt_id,
    prompt || chosen AS chosen,
    prompt || rejected AS rejected,
    ref_chosen_logprob,
    ref_rejected_logprob,
    chosen_reward,
    rejected_reward,
    reference_rewards AS ref_rewards,
    chosen_quantile AS chosen_quantile_reward,
    rejected_quantile AS rejected_quantile_reward,
    chosen_tokens,
    rejected_tokens
FROM dpo_pairs
LEFT JOIN (
    SELECT completion_id AS chosen_completion_id, logprob AS ref_chosen_logprob
    FROM reference_logprobs
    WHERE policy = $policy
) USING (chosen_completion_id)
LEFT JOIN (
    SELECT completion_id AS rejected_completion_id, logprob AS ref_rejected_logprob
    FROM reference_logprobs
    WHERE policy = $policy
) USING (rejected_completion_id)
WHERE policy = $policy
