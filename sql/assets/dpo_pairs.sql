-- The pair or pairs of each prompt for one policy (report, section 4.1.4; bands as the design words them).
-- Chosen: from the completions above every reference, else from quantile 1, else from the middle, else
-- the worst. Rejected: from the worst, else the middle, else the best. A chosen reward exceeds the
-- rejected one and their texts differ. Draws are functions of (seed, policy, completion).
WITH eligible AS (
    SELECT
        *,
        list_position(['above_all', 'best', 'middle', 'worst'], band) AS height,
        draw($seed, 'chosen/' || policy, completion_id) AS chosen_draw,
        draw($seed, 'rejected/' || policy, completion_id) AS rejected_draw
    FROM quantile_rewards
    WHERE policy = $policy AND ineligible_reason IS NULL AND n_references >= $min_references
),
-- Of the candidates strictly below: is there one with another text?
partnered AS (
    SELECT
        *,
        min(text_hash) OVER below AS least_hash,
        max(text_hash) OVER below AS greatest_hash
    FROM eligible
    WINDOW below AS (
        PARTITION BY prompt_id ORDER BY reward
        RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP)
),
chosen AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY prompt_id ORDER BY height, chosen_draw, completion_id) - 1 AS pair_index
    FROM partnered
    WHERE least_hash <> text_hash OR greatest_hash <> text_hash
    QUALIFY pair_index < $pairs_per_prompt
),
matched AS (
    SELECT
        chosen.prompt_id,
        chosen.track,
        chosen.pair_index,
        chosen.completion_id AS chosen_completion_id,
        rejected.completion_id AS rejected_completion_id,
        chosen.model AS chosen_model,
        rejected.model AS rejected_model,
        chosen.variant AS chosen_variant,
        rejected.variant AS rejected_variant,
        chosen.reward AS chosen_reward,
        rejected.reward AS rejected_reward,
        chosen.quantile AS chosen_quantile,
        rejected.quantile AS rejected_quantile,
        chosen.band AS chosen_band,
        rejected.band AS rejected_band,
        row_number() OVER (
            PARTITION BY chosen.completion_id
            ORDER BY rejected.height DESC, rejected.rejected_draw, rejected.completion_id) - 1 AS partner_index
    FROM chosen
    JOIN eligible AS rejected
        ON rejected.prompt_id = chosen.prompt_id
        AND rejected.reward < chosen.reward
        AND rejected.text_hash <> chosen.text_hash
    -- The k-th pair of a prompt takes the k-th partner, so that pairs differ on both sides.
    QUALIFY partner_index = chosen.pair_index
),
reference_rewards AS (
    SELECT prompt_id, list_sort(list(reward)) AS reference_rewards
    FROM quantile_rewards
    WHERE policy = $policy AND model = $policy AND variant = 'reference' AND reward IS NOT NULL
    GROUP BY prompt_id
)
SELECT
    identify([$policy, prompt_id, pair_index::VARCHAR]) AS pair_id,
    $policy AS policy,
    prompt_id,
    matched.track,
    pair_index::INTEGER AS pair_index,
    alignment_prompts.messages AS prompt,
    [{'role': 'assistant', 'content': chosen_text.text}] AS chosen,
    [{'role': 'assistant', 'content': rejected_text.text}] AS rejected,
    matched.* EXCLUDE (prompt_id, track, pair_index, partner_index),
    chosen_text.completion_tokens AS chosen_tokens,
    rejected_text.completion_tokens AS rejected_tokens,
    reference_rewards.reference_rewards
FROM matched
JOIN reference_rewards USING (prompt_id)
JOIN alignment_prompts USING (prompt_id)
JOIN completions AS chosen_text ON chosen_text.completion_id = chosen_completion_id
JOIN completions AS rejected_text ON rejected_text.completion_id = rejected_completion_id
ORDER BY prompt_id, pair_index
