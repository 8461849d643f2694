CREATE TABLE completions (
    completion_id UUID NOT NULL,
    request_id UUID NOT NULL,
    prompt_id UUID NOT NULL,
    model VARCHAR NOT NULL,
    variant VARCHAR NOT NULL,
    sample_index INTEGER NOT NULL,
    text VARCHAR,
    text_hash VARCHAR,
    normal_hash UBIGINT,
    reasoning VARCHAR,
    finish_reason VARCHAR NOT NULL,
    error VARCHAR,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    text_tokens INTEGER,
    cached_tokens INTEGER,
    engine VARCHAR NOT NULL,
    engine_version VARCHAR NOT NULL,
    engine_settings VARCHAR NOT NULL,
    model_fingerprint VARCHAR NOT NULL,
    seconds FLOAT,
    answered_at TIMESTAMP NOT NULL
);
COMMENT ON TABLE completions IS 'What each model or policy answered: one row for each completion request.';
COMMENT ON COLUMN completions.completion_id IS 'Names the row; the same as in completion_requests.';
COMMENT ON COLUMN completions.request_id IS 'The request that this is the answer to.';
COMMENT ON COLUMN completions.prompt_id IS 'The prompt answered.';
COMMENT ON COLUMN completions.model IS 'The model or policy that answered: the partition.';
COMMENT ON COLUMN completions.variant IS 'default, principle, persona, charter or reference.';
COMMENT ON COLUMN completions.sample_index IS 'Which of several samples of the same variant, from 0.';
COMMENT ON COLUMN completions.text IS 'The answer; NULL where the request failed for good.';
COMMENT ON COLUMN completions.text_hash IS 'sha256 of the text.';
COMMENT ON COLUMN completions.normal_hash IS 'A hash of the text''s normal form (NFC, without what shows nothing, white-space runs as one space): texts with the same are one text.';
COMMENT ON COLUMN completions.reasoning IS 'What the answer thought aloud before its text, taken out of it; the whole answer where the recipe rejects such; NULL where it did not, or the recipe keeps it in the text.';
COMMENT ON COLUMN completions.finish_reason IS 'stop, length (it ran into the token limit), context_length (it could not fit the model''s context), rejected (the engine refused it) or failed (in spite of retries).';
COMMENT ON COLUMN completions.error IS 'Why a request failed for good; NULL otherwise.';
COMMENT ON COLUMN completions.prompt_tokens IS 'Tokens of the prompt, system prompt and template included.';
COMMENT ON COLUMN completions.completion_tokens IS 'Tokens of the answer, what it thought aloud included.';
COMMENT ON COLUMN completions.text_tokens IS 'Tokens of the text: all, or by its share of the bytes where thoughts were taken out.';
COMMENT ON COLUMN completions.cached_tokens IS 'Prompt tokens that came from the engine''s prefix cache.';
COMMENT ON COLUMN completions.engine IS 'The inference backend.';
COMMENT ON COLUMN completions.engine_version IS 'Its version.';
COMMENT ON COLUMN completions.engine_settings IS 'The limits under which the backend refuses requests, as JSON.';
COMMENT ON COLUMN completions.model_fingerprint IS 'Weights, chat template, its arguments and template date, as one hash.';
COMMENT ON COLUMN completions.seconds IS 'Seconds from the request''s submission to its end.';
COMMENT ON COLUMN completions.answered_at IS 'When the answer was complete, UTC.';
