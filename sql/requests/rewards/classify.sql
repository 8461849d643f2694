-- What a reward model is asked about one model's completions: the conversation with its answer, without
-- the system prompt that the answer was made under.
SELECT
    completions.completion_id,
    request_hash(
        completion_hash(prompt_hash, model, variant, sample_index), 'classify', $scorer_fingerprint,
        content_hash([messages_hash, text_hash]), NULL, NULL) AS request_id,
    'classify' AS kind,
    messages || [{'role': 'assistant', 'content': completions.text}] AS messages,
    '{}' AS sampling,
    NULL::VARCHAR[] AS labels,
    NULL::VARCHAR AS answer_schema,
    {
        'longest_first': -conversation_length(alignment_prompts.messages),
        'prompt': prompt_id,
        'completion': completion_id
    } AS asking_order
FROM completions
JOIN alignment_prompts USING (prompt_id)
WHERE model = $model AND track = $track AND text_hash IS NOT NULL
