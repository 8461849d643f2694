-- What one model is asked to generate, with texts put in. Shared prefixes (a system prompt, the samples
-- of one prompt) stand back to back, and long prompts come first, so that no engine ends on them.
SELECT
    completion_id,
    request_id,
    prompt_id,
    model,
    variant,
    sample_index,
    model_fingerprint AS request_fingerprint,
    'generate' AS kind,
    with_system(
        CASE completion_requests.variant
            WHEN 'persona' THEN filled(wordings.text, map(['persona'], [personas.persona]))
            ELSE wordings.text
        END,
        alignment_prompts.messages) AS messages,
    sampling,
    NULL::VARCHAR[] AS labels,
    NULL::VARCHAR AS answer_schema,
    {
        'wording': wording_id,
        'longest_first': -conversation_length(alignment_prompts.messages),
        'prompt': prompt_id,
        'sample': sample_index
    } AS asking_order
FROM completion_requests
JOIN alignment_prompts USING (prompt_id)
LEFT JOIN wordings USING (wording_id)
LEFT JOIN (SELECT persona_id, any_value(persona) AS persona FROM personas GROUP BY persona_id) AS personas
    USING (persona_id)
WHERE model = $model
