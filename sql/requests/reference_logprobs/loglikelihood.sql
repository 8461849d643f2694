-- What the policy is asked about completions: how likely it was to give each of them as the answer to the conversation
-- as read. Those in pairs are asked about, or all candidates that are not too long (reference_logprobs.scope).
WITH wanted AS (
    SELECT unnest([chosen_completion_id, rejected_completion_id]) AS completion_id
    FROM selected_pairs
    WHERE policy = $policy AND $reference_logprobs_scope = 'selected'
    UNION
    SELECT completion_id
    FROM quantile_rewards
    WHERE
        policy = $policy
        AND $reference_logprobs_scope = 'candidates'
        AND normal_hash IS NOT NULL
        AND ineligible_reason IS DISTINCT FROM 'too many tokens'
        AND ineligible_reason IS DISTINCT FROM 'no token counts'
)
SELECT
    prompt_id,
    completion_id,
    request_hash(
        completion_hash(prompt_hash, model, variant, sample_index), 'loglikelihood', $model_fingerprint,
        content_hash([messages_hash, text_hash]), NULL, NULL) AS request_id,
    'loglikelihood' AS kind,
    messages || [{'role': 'assistant', 'content': completions.text}] AS messages,
    '{}' AS sampling,
    NULL::VARCHAR[] AS labels,
    NULL::VARCHAR AS answer_schema,
    {
        'longest_first': -conversation_length(messages),
        'prompt': prompt_id,
        'completion': completion_id
    } AS asking_order
FROM completions
JOIN wanted USING (completion_id)
JOIN alignment_prompts USING (prompt_id)
WHERE text_hash IS NOT NULL
