CREATE TABLE completion_requests (
    completion_id UUID NOT NULL,
    request_id UUID NOT NULL,
    prompt_id UUID NOT NULL,
    track VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    variant VARCHAR NOT NULL,
    sample_index INTEGER NOT NULL,
    principle VARCHAR,
    wording_id VARCHAR,
    wording_hash VARCHAR,
    persona_id UUID,
    model_fingerprint VARCHAR NOT NULL,
    sampling VARCHAR NOT NULL
);
COMMENT ON TABLE completion_requests IS 'One row for each completion to generate, by reference: no rendered text.';
COMMENT ON COLUMN completion_requests.completion_id IS 'The first 128 bits of the sha256 of prompt, model, variant and sample index: it names the row.';
COMMENT ON COLUMN completion_requests.request_id IS 'The first 128 bits of the sha256 of all that the answer depends on: it names the question.';
COMMENT ON COLUMN completion_requests.prompt_id IS 'The prompt to answer.';
COMMENT ON COLUMN completion_requests.track IS 'The prompt''s track.';
COMMENT ON COLUMN completion_requests.model IS 'The model or policy that answers: the partition.';
COMMENT ON COLUMN completion_requests.variant IS 'default, principle, persona, charter or reference.';
COMMENT ON COLUMN completion_requests.sample_index IS 'Which of several samples of the same variant, from 0.';
COMMENT ON COLUMN completion_requests.principle IS 'The principle drawn; NULL for other variants.';
COMMENT ON COLUMN completion_requests.wording_id IS 'The system prompt''s wording; NULL where the model''s own default stands.';
COMMENT ON COLUMN completion_requests.wording_hash IS 'sha256 of that wording''s text.';
COMMENT ON COLUMN completion_requests.persona_id IS 'The persona drawn; NULL for other variants.';
COMMENT ON COLUMN completion_requests.model_fingerprint IS 'Weights, chat template, its arguments and template date, as one hash.';
COMMENT ON COLUMN completion_requests.sampling IS 'Sampling parameters as JSON.';
