-- What one model is asked to generate, with texts put in. Shared prefixes stand back to back.
SELECT
    completion_id,
    request_id,
    'generate' AS task,
    with_system(
        CASE completion_requests.variant
            WHEN 'persona' THEN
                template_part(wordings.text, 1) || personas.persona || template_part(wordings.text, 2)
            ELSE wordings.text
        END,
        alignment_prompts.messages) AS messages,
    sampling,
    NULL::VARCHAR[] AS labels,
    NULL::VARCHAR AS answer_schema
FROM completion_requests
JOIN alignment_prompts USING (prompt_id)
LEFT JOIN wordings USING (wording_id)
LEFT JOIN (SELECT persona_id, any_value(persona) AS persona FROM personas GROUP BY persona_id) AS personas
    USING (persona_id)
WHERE model = $model
ORDER BY wording_id, prompt_id, sample_index
