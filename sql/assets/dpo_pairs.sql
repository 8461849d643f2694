-- The selected pairs of one policy with their texts, ready for a DPO trainer (report, section 4.1.4).
-- Texts are read once, for both sides.
WITH sides AS (
    SELECT
        prompt_id, pair_index, 'chosen' AS side,
        chosen_completion_id AS completion_id
    FROM selected_pairs
    WHERE policy = $policy
    UNION ALL
    SELECT prompt_id, pair_index, 'rejected', rejected_completion_id
    FROM selected_pairs
    WHERE policy = $policy
),
texts AS MATERIALIZED (
    SELECT
        sides.prompt_id,
        pair_index,
        side,
        model,
        variant,
        policy_tokens.completion_tokens AS tokens,
        [{'role': 'assistant', 'content': text}] AS messages
    FROM completions
    JOIN sides USING (completion_id)
    JOIN (FROM policy_tokens WHERE policy = $policy) AS policy_tokens USING (completion_id)
),
reference_rewards AS (
    SELECT prompt_id, list_sort(list(reward)) AS reference_rewards
    FROM quantile_rewards
    WHERE policy = $policy AND model = $policy AND variant = 'reference' AND reward IS NOT NULL
        AND ($selection_references = 'all' OR ineligible_reason IS NULL)
    GROUP BY prompt_id
)
SELECT
    as_id(content_hash([$policy, prompt_hash, pair_index::VARCHAR])) AS pair_id,
    $policy AS policy,
    prompt_id,
    selected_pairs.track,
    pair_index,
    alignment_prompts.messages AS prompt,
    chosen.messages AS chosen,
    rejected.messages AS rejected,
    chosen_completion_id,
    rejected_completion_id,
    chosen.model AS chosen_model,
    rejected.model AS rejected_model,
    chosen.variant AS chosen_variant,
    rejected.variant AS rejected_variant,
    chosen_reward,
    rejected_reward,
    chosen_quantile,
    rejected_quantile,
    chosen_band,
    rejected_band,
    chosen.tokens AS chosen_tokens,
    rejected.tokens AS rejected_tokens,
    reference_rewards
FROM selected_pairs
JOIN (FROM texts WHERE side = 'chosen') AS chosen USING (prompt_id, pair_index)
JOIN (FROM texts WHERE side = 'rejected') AS rejected USING (prompt_id, pair_index)
JOIN reference_rewards USING (prompt_id)
JOIN alignment_prompts USING (prompt_id)
WHERE selected_pairs.policy = $policy
