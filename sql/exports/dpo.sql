-- Pairs in the conversational form that TRL's DPOTrainer takes, with rewards, and with the policy's log-probabilities
-- under names that no trainer reads by itself.
SELECT
    pair_id,
    prompt_id,
    track,
    prompt,
    chosen,
    rejected,
    chosen_completion_id,
    rejected_completion_id,
    chosen_model,
    rejected_model,
    chosen_variant,
    rejected_variant,
    chosen_reward,
    rejected_reward,
    chosen_quantile,
    rejected_quantile,
    chosen_reference_logprob,
    rejected_reference_logprob,
    prompt_tokens,
    chosen_tokens,
    rejected_tokens
FROM dpo_pairs
LEFT JOIN (
    SELECT completion_id AS chosen_completion_id, logprob AS chosen_reference_logprob
    FROM reference_logprobs
    WHERE policy = $policy
) USING (chosen_completion_id)
LEFT JOIN (
    SELECT completion_id AS rejected_completion_id, logprob AS rejected_reference_logprob
    FROM reference_logprobs
    WHERE policy = $policy
) USING (rejected_completion_id)
LEFT JOIN (
    SELECT completion_id AS chosen_completion_id, prompt_tokens
    FROM policy_tokens
    WHERE policy = $policy
) USING (chosen_completion_id)
WHERE policy = $policy
