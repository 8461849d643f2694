-- Every candidate's place among the rewards of the policy's reference completions (report, section
-- 4.1.4): quantile = |{s in S: s <= r}| / n, and whether it may be chosen or rejected.
WITH candidates AS (
    SELECT
        rewards.prompt_id,
        rewards.completion_id,
        rewards.track,
        rewards.model,
        rewards.variant,
        rewards.sample_index,
        completions.normal_hash,
        completions.finish_reason,
        policy_tokens.prompt_tokens + policy_tokens.completion_tokens AS sequence_tokens,
        CASE rewards.track WHEN 'standard' THEN rewards.reward ELSE judge_rankings.rank_reward END AS reward,
        rewards.model = $policy AND rewards.variant = 'reference' AS is_reference
    FROM rewards
    JOIN completions USING (completion_id)
    LEFT JOIN (FROM policy_tokens WHERE policy = $policy) AS policy_tokens USING (completion_id)
    LEFT JOIN judge_rankings
        ON judge_rankings.completion_id = rewards.completion_id AND judge_rankings.policy = $policy
    WHERE list_contains($completions_models, rewards.model) OR rewards.model = $policy
),
measured AS (
    SELECT
        candidates.*,
        CASE
            WHEN normal_hash IS NULL THEN 'no completion'
            WHEN reward IS NULL THEN 'no reward'
            WHEN normal_hash = normal_hash('') THEN 'empty text'
            WHEN finish_reason = 'length' AND NOT $selection_allow_truncated THEN 'truncated'
            WHEN sequence_tokens > $selection_max_sequence_tokens THEN 'too many tokens'
            WHEN sequence_tokens IS NULL THEN 'no token counts'
        END AS ineligible_reason
    FROM candidates
),
reference_rewards AS (
    SELECT
        prompt_id,
        count(*) AS n_references,
        list(reward) AS s,
        max(reward) AS highest
    FROM measured
    WHERE is_reference AND reward IS NOT NULL AND ($selection_references = 'all' OR ineligible_reason IS NULL)
    GROUP BY prompt_id
),
placed AS (
    SELECT
        measured.*,
        coalesce(n_references, 0) AS n_references,
        highest,
        CASE WHEN reward IS NOT NULL
            THEN len(list_filter(s, lambda reference: reference <= reward)) / n_references END AS quantile
    FROM measured
    LEFT JOIN reference_rewards USING (prompt_id)
)
SELECT
    $policy AS policy,
    prompt_id,
    completion_id,
    track,
    model,
    variant,
    sample_index,
    normal_hash,
    reward,
    n_references::INTEGER AS n_references,
    quantile,
    CASE
        WHEN quantile IS NULL THEN NULL
        WHEN reward > highest THEN 'above_all'
        WHEN quantile = 1 THEN 'best'
        WHEN quantile <= greatest($selection_rejected_quantile, 1 / n_references) THEN 'worst'
        ELSE 'middle'
    END AS band,
    ineligible_reason
FROM placed
-- Ids of prompts that stand one after the other take a fraction of the room.
ORDER BY prompt_id
