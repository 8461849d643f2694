-- The pair or pairs of each prompt for one policy (report, section 4.1.4; bands as the design words them).
-- Chosen: from the completions above every reference, else from quantile 1, else from the middle, else
-- the worst. Rejected: from the worst, else the middle, else the best. A chosen reward exceeds the
-- rejected one and their texts differ. Draws are functions of (seed, policy, completion).
-- A further pair is drawn like the first, but no text is chosen twice or rejected twice.
WITH RECURSIVE eligible AS MATERIALIZED (
    SELECT
        prompt_id,
        completion_id,
        text_hash,
        reward,
        -- The band, then the draw: the least is taken.
        list_position(['above_all', 'best', 'middle', 'worst'], band)
            || draw($seed, 'chosen/' || policy, completion_id) AS chosen_order,
        list_position(['worst', 'middle', 'best', 'above_all'], band)
            || draw($seed, 'rejected/' || policy, completion_id) AS rejected_order
    FROM quantile_rewards
    WHERE policy = $policy AND ineligible_reason IS NULL AND n_references >= $min_references
),
drawn AS (
    SELECT DISTINCT
        prompt_id,
        -1 AS pair_index,
        NULL::VARCHAR AS chosen_completion_id,
        NULL::VARCHAR AS rejected_completion_id,
        []::VARCHAR[] AS chosen_texts,
        []::VARCHAR[] AS rejected_texts
    FROM eligible
    UNION ALL (
        -- Of the candidates strictly below: is there one with another text?
        WITH partnered AS (
            SELECT
                prompt_id,
                chosen_order,
                chosen_texts,
                {'completion_id': completion_id, 'text': text_hash, 'reward': reward} AS candidate,
                min(text_hash) FILTER (NOT list_contains(rejected_texts, text_hash)) OVER below AS least_text,
                max(text_hash) FILTER (NOT list_contains(rejected_texts, text_hash)) OVER below AS greatest_text
            FROM drawn
            JOIN eligible USING (prompt_id)
            WHERE pair_index + 1 < $pairs_per_prompt
            WINDOW below AS (
                PARTITION BY prompt_id ORDER BY reward
                RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP)
        ),
        taken AS (
            SELECT prompt_id, arg_min(candidate, chosen_order) AS chosen
            FROM partnered
            WHERE (least_text <> candidate.text OR greatest_text <> candidate.text)
                AND NOT list_contains(chosen_texts, candidate.text)
            GROUP BY prompt_id
        )
        SELECT
            prompt_id,
            any_value(pair_index) + 1,
            any_value(chosen.completion_id),
            arg_min(completion_id, rejected_order),
            list_append(any_value(chosen_texts), any_value(chosen.text)),
            list_append(any_value(rejected_texts), arg_min(text_hash, rejected_order))
        FROM taken
        JOIN drawn USING (prompt_id)
        JOIN eligible USING (prompt_id)
        WHERE reward < chosen.reward AND text_hash <> chosen.text AND NOT list_contains(rejected_texts, text_hash)
        GROUP BY prompt_id
    )
),
reference_rewards AS (
    SELECT prompt_id, list_sort(list(reward)) AS reference_rewards
    FROM quantile_rewards
    WHERE policy = $policy AND model = $policy AND variant = 'reference' AND reward IS NOT NULL
    GROUP BY prompt_id
)
-- A text that was generated again since it was scored must not pass under the old reward.
SELECT
    identify([$policy, drawn.prompt_id, pair_index::VARCHAR]) AS pair_id,
    $policy AS policy,
    drawn.prompt_id,
    chosen.track,
    pair_index::INTEGER AS pair_index,
    alignment_prompts.messages AS prompt,
    [{'role': 'assistant', 'content': CASE WHEN chosen_text.text_hash = chosen.text_hash THEN chosen_text.text
        ELSE error('completions[' || chosen.model || '] changed since they were scored; '
            || 'materialize its rewards and what follows again') END}] AS chosen,
    [{'role': 'assistant', 'content': CASE WHEN rejected_text.text_hash = rejected.text_hash THEN rejected_text.text
        ELSE error('completions[' || rejected.model || '] changed since they were scored; '
            || 'materialize its rewards and what follows again') END}] AS rejected,
    chosen_completion_id,
    rejected_completion_id,
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
    chosen_text.completion_tokens AS chosen_tokens,
    rejected_text.completion_tokens AS rejected_tokens,
    reference_rewards.reference_rewards
FROM drawn
JOIN reference_rewards USING (prompt_id)
JOIN alignment_prompts USING (prompt_id)
JOIN quantile_rewards AS chosen ON chosen.policy = $policy AND chosen.completion_id = chosen_completion_id
JOIN quantile_rewards AS rejected ON rejected.policy = $policy AND rejected.completion_id = rejected_completion_id
JOIN completions AS chosen_text ON chosen_text.completion_id = chosen_completion_id
JOIN completions AS rejected_text ON rejected_text.completion_id = rejected_completion_id
WHERE pair_index >= 0
ORDER BY drawn.prompt_id, pair_index
