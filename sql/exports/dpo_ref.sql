-- Pairs as in dpo, for trainers that read the reference model's log-probabilities from the data set: only those of
-- which both are known, and of which both answers begin at the same token. TRL lets both begin where the first of them
-- does, so of other pairs it would sum more tokens than are known.
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
    ref_chosen_logps,
    ref_rejected_logps,
    prompt_tokens,
    chosen_tokens,
    rejected_tokens
FROM dpo_pairs
JOIN (
    SELECT completion_id AS chosen_completion_id, logprob AS ref_chosen_logps, prompt_tokens
    FROM reference_logprobs
    WHERE policy = $policy AND logprob IS NOT NULL
) USING (chosen_completion_id)
JOIN (
    SELECT completion_id AS rejected_completion_id, logprob AS ref_rejected_logps, prompt_tokens
    FROM reference_logprobs
    WHERE policy = $policy AND logprob IS NOT NULL
) USING (rejected_completion_id, prompt_tokens)
WHERE policy = $policy
