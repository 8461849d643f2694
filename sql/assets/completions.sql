-- The engine's answer to each completion request of one model.
SELECT
    completion_id,
    request_id,
    prompt_id,
    model,
    variant,
    sample_index,
    answers.text,
    coalesce(answers.text_hash, sha256(answers.text)) AS text_hash,
    normal_hash(answers.text) AS normal_hash,
    answers.finish_reason,
    answers.error,
    answers.prompt_tokens,
    answers.completion_tokens,
    answers.cached_tokens,
    answers.engine,
    answers.engine_version,
    answers.engine_settings,
    model_fingerprint,
    answers.seconds,
    answers.answered_at
FROM completion_requests
JOIN answers USING (request_id)
WHERE model = $model
