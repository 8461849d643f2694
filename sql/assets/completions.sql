-- The engine's answer to each completion request of one model. What it thinks aloud before it is handled as the
-- recipe says for the model (reasoning): taken out of the text, a reason to reject the answer, or kept. The join is
-- with the requests that were just read, since DuckDB knows how many they are: it keeps them in memory, and no text.
WITH said AS (
    SELECT
        requests.*,
        answers.* EXCLUDE (request_id),
        CASE WHEN $models_reasoning[$model] <> 'keep' THEN thinking(answers.text) END AS thought
    FROM requests
    JOIN answers USING (request_id)
),
judged AS (
    SELECT *, thought IS NOT NULL AND $models_reasoning[$model] = 'reject' AS rejects
    FROM said
),
-- The text that is scored and trained on; NULL where it is the answer to the character, whose hash is known.
taken AS (
    SELECT
        *,
        CASE WHEN NOT rejects AND (thought IS NOT NULL OR $completions_stripped) THEN
            CASE WHEN $completions_stripped
                THEN stripped(CASE WHEN thought IS NULL THEN text ELSE after_thinking(text) END)
                ELSE after_thinking(text) END
        END AS changed
    FROM judged
)
SELECT
    completion_id,
    request_id,
    prompt_id,
    model,
    variant,
    sample_index,
    CASE WHEN NOT rejects THEN coalesce(changed, text) END AS text,
    CASE WHEN NOT rejects THEN coalesce(sha256(changed), text_hash, sha256(text)) END AS text_hash,
    CASE WHEN NOT rejects THEN normal_hash(coalesce(changed, text)) END AS normal_hash,
    CASE WHEN rejects THEN text ELSE thought END AS reasoning,
    CASE WHEN rejects THEN 'rejected' ELSE finish_reason END AS finish_reason,
    CASE WHEN rejects THEN 'it thinks aloud, which the recipe rejects (reasoning: reject)' ELSE error END AS error,
    prompt_tokens,
    completion_tokens,
    -- Nobody counts the tokens of a part: it has its share of the bytes.
    CASE WHEN thought IS NULL THEN completion_tokens
        WHEN NOT rejects THEN ceil(completion_tokens * strlen(changed) / strlen(text)) END::INTEGER AS text_tokens,
    cached_tokens,
    engine,
    engine_version,
    engine_settings,
    request_fingerprint AS model_fingerprint,
    seconds::FLOAT AS seconds,
    answered_at
FROM taken
