-- One completion a row with its quantile reward and the rewards of the policy's references, for QRPO.
SELECT
    sample_id,
    prompt_id,
    track,
    prompt,
    completion,
    reward,
    quantile AS quantile_reward,
    reference_rewards AS ref_rewards,
    ref_logprob,
    completion_tokens,
    selected_as,
    completion_id,
    model,
    variant
FROM qrpo_samples
LEFT JOIN (
    SELECT completion_id, logprob AS ref_logprob
    FROM reference_logprobs
    WHERE policy = $policy
) USING (completion_id)
WHERE policy = $policy
