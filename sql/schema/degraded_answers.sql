CREATE TABLE degraded_answers (
    scorer VARCHAR NOT NULL,
    prompt_id UUID NOT NULL,
    completion_id UUID NOT NULL,
    step INTEGER NOT NULL,
    step_name VARCHAR NOT NULL,
    rung_id UUID NOT NULL,
    request_id UUID,
    text VARCHAR,
    text_hash VARCHAR,
    model VARCHAR NOT NULL,
    missing_reason VARCHAR
);
COMMENT ON TABLE degraded_answers IS 'Ladders that scorers are tried on: an answer to each drawn prompt of a track, and what a model made of it, worse with each step.';
COMMENT ON COLUMN degraded_answers.scorer IS 'The track whose scorer is tried: standard or controversial.';
COMMENT ON COLUMN degraded_answers.prompt_id IS 'The prompt.';
COMMENT ON COLUMN degraded_answers.completion_id IS 'The answer that the ladder begins with.';
COMMENT ON COLUMN degraded_answers.step IS '0 is that answer as it stands; each further step is worse.';
COMMENT ON COLUMN degraded_answers.step_name IS 'The fault that comes with the step, of degradations.yaml; original at 0.';
COMMENT ON COLUMN degraded_answers.rung_id IS 'Names the text among those that scorers are asked about.';
COMMENT ON COLUMN degraded_answers.request_id IS 'The request that made it; NULL at 0.';
COMMENT ON COLUMN degraded_answers.text IS 'The text; without thoughts.';
COMMENT ON COLUMN degraded_answers.text_hash IS 'sha256 of the text.';
COMMENT ON COLUMN degraded_answers.model IS 'Whose answer it was, and who made it worse.';
COMMENT ON COLUMN degraded_answers.missing_reason IS 'Why no scorer is asked about it: no text, an empty one, or that of an earlier step; NULL where one is.';
