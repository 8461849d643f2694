-- Where does the pair $pair_id come from? One fact a row: from the pair through selection, ranking,
-- score, completion, wording and persona back to the prompt, its grade, the source rows that it was
-- read from, and what admitted them. Facts that a row lacks are left out.
WITH pair AS (
    SELECT * FROM dpo_pairs WHERE pair_id = $pair_id
),
sides AS (
    SELECT
        'chosen' AS side, policy, prompt_id, chosen_completion_id AS completion_id,
        chosen_reward AS reward, chosen_quantile AS quantile, chosen_band AS band
    FROM pair
    UNION ALL
    SELECT
        'rejected', policy, prompt_id, rejected_completion_id,
        rejected_reward, rejected_quantile, rejected_band
    FROM pair
),
-- The rows that the prompt was kept from; the repeats of a row that fell to it are named beside it.
origins AS (
    SELECT
        licensed_prompts.*,
        extra,
        (
            SELECT string_agg(repeats.row_number, ', ' ORDER BY repeats.row_number)
            FROM prompt_exclusions AS repeats
            WHERE repeats.dataset = licensed_prompts.dataset
                AND repeats.prompt_id = licensed_prompts.prompt_id
                AND rule = 'repeat'
        ) AS repeated_in_rows,
        subsets_of(source, upstream_id, $licence_excluded_subsets) AS excluded_subsets
    FROM licensed_prompts
    JOIN (SELECT dataset, row_number, extra FROM source_prompts) USING (dataset, row_number)
    WHERE prompt_id IN (SELECT prompt_id FROM pair)
),
facts AS (
    SELECT 1 AS place, 'pair' AS step, 'both' AS about, json_object(
        'pair_id', pair_id,
        'policy', policy,
        'track', track,
        'pair_index', pair_index,
        'reference_rewards', reference_rewards
    ) AS facts
    FROM pair
    UNION ALL
    SELECT 2, 'selection', side, json_object(
        'completion_id', completion_id,
        'reward', reward,
        'quantile', quantile,
        'band', band
    )
    FROM sides
    UNION ALL
    SELECT 3, 'ranking', side, json_object(
        'score_position', score_position,
        'wins', wins,
        'comparisons', len(comparisons),
        'position', position,
        'rank_reward', rank_reward,
        'judge', (
            SELECT min(judge)
            FROM judge_comparisons
            WHERE judge_comparisons.policy = sides.policy
                AND judge_comparisons.prompt_id = sides.prompt_id
        )
    )
    FROM sides
    JOIN judge_rankings USING (policy, prompt_id, completion_id)
    UNION ALL
    SELECT 4, 'score', side, json_object(
        'scorer', scorer,
        'task', task,
        'reward', rewards.reward,
        'score_mass', score_mass,
        'request_id', request_id
    )
    FROM sides
    JOIN rewards USING (prompt_id, completion_id)
    UNION ALL
    SELECT 5, 'completion', side, json_object(
        'model', model,
        'variant', variant,
        'sample_index', sample_index,
        'text', text,
        'finish_reason', finish_reason,
        'prompt_tokens', prompt_tokens,
        'completion_tokens', completion_tokens,
        'model_fingerprint', model_fingerprint,
        'engine', engine,
        'engine_version', engine_version,
        'engine_settings', engine_settings,
        'answered_at', answered_at,
        'request_id', request_id
    )
    FROM sides
    JOIN completions USING (prompt_id, completion_id)
    UNION ALL
    -- Only where the question is still the one that was answered.
    SELECT 6, 'request', side, json_object(
        'sampling', sampling,
        'principle', completion_requests.principle,
        'wording_id', wording_id,
        'wording_hash', wording_hash,
        'wording', wordings.text,
        'persona_id', persona_id,
        'persona', (
            SELECT min(persona)
            FROM personas
            WHERE personas.persona_id = completion_requests.persona_id
        )
    )
    FROM sides
    JOIN completions USING (prompt_id, completion_id)
    JOIN completion_requests USING (prompt_id, completion_id, request_id)
    LEFT JOIN wordings USING (wording_id, wording_hash)
    UNION ALL
    SELECT 7, 'prompt', 'both', json_object(
        'prompt_id', prompt_id,
        'datasets', array_to_string(datasets, ', '),
        'messages', array_to_string(
            list_transform(messages, lambda message: message.role || ': ' || message.content),
            chr(10))
    )
    FROM pair
    JOIN alignment_prompts USING (prompt_id)
    UNION ALL
    SELECT 8, 'grade', 'both', json_object(
        'grade', grade,
        'is_controversial', is_controversial,
        'reasoning', reasoning,
        'grader', model,
        'parsed_as', parsed_as,
        'attempts', attempts,
        'request_id', request_id
    )
    FROM pair
    JOIN controversy_labels USING (prompt_id)
    UNION ALL
    SELECT 9, 'source', dataset, json_object(
        'row_number', row_number,
        'source', source,
        'upstream_id', upstream_id,
        'track', track,
        'extra', extra::VARCHAR,
        'messages_hash', messages_hash,
        'repeated_in_rows', repeated_in_rows
    )
    FROM origins
    UNION ALL
    SELECT 10, 'licence', dataset, json_object(
        'excluded_subsets', coalesce(
            nullif(array_to_string(excluded_subsets, ', '), ''),
            'none of ' || array_to_string($licence_excluded_subsets, ', ')),
        'consent_basis', consent_basis,
        'origin_url', origin_url,
        'origin_domain', origins.origin_domain,
        'origin_status', status,
        'origin_reason', reason,
        'robots_snapshot', snapshot_hash
    )
    FROM origins
    LEFT JOIN origin_consent USING (origin_url)
),
named AS (
    SELECT
        place, step, about, facts,
        generate_subscripts(json_keys(facts), 1) AS number,
        unnest(json_keys(facts)) AS fact
    FROM facts
)
SELECT step, about, fact, facts ->> fact AS value
FROM named
WHERE value IS NOT NULL
ORDER BY place, about, number
