-- What a model is asked to make of its own answers, so that a scorer can be tried on them: one request for each of the
-- $calibration_prompts drawn prompts of a track and each step. A step has its own fault and those before it.
WITH drawn AS (
    SELECT prompt_id, prompt_hash, messages, messages_hash
    FROM alignment_prompts
    WHERE track = $scorer
    ORDER BY sample_key($seed, 'calibration', prompt_hash), prompt_id
    LIMIT $calibration_prompts
)
SELECT
    prompt_id,
    completion_id,
    step.number AS step,
    step.wording_id AS wording_id,
    request_hash(
        completion_hash(prompt_hash, model, variant, sample_index) || '/' || step.number::VARCHAR, 'degrade',
        $model_fingerprint, content_hash([messages_hash, text_hash, system.wording_hash, step.wording_hash]),
        $sampling, NULL) AS request_id,
    'generate' AS kind,
    asked_with(
        system.text,
        filled(step.text, map(['prompt', 'completion'], [as_transcript(messages), completions.text]))) AS messages,
    $sampling AS sampling,
    NULL::VARCHAR[] AS labels,
    NULL::VARCHAR AS answer_schema,
    {'longest_first': -conversation_length(drawn.messages), 'prompt': prompt_id, 'step': step.number} AS asking_order
FROM completions
JOIN drawn USING (prompt_id)
CROSS JOIN (SELECT * FROM wordings WHERE wording_id = 'degrade_system') AS system
CROSS JOIN (SELECT * FROM wordings WHERE kind = 'degradation') AS step
WHERE model = $calibration_model
-- One answer of each prompt.
QUALIFY dense_rank() OVER (PARTITION BY prompt_id ORDER BY text_hash IS NULL, variant, sample_index) = 1
    AND completions.text_hash IS NOT NULL
