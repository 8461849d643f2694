CREATE TABLE calibration_answers (
    scorer VARCHAR NOT NULL,
    asked_as VARCHAR NOT NULL,
    prompt_id UUID NOT NULL,
    completion_id UUID NOT NULL,
    step INTEGER,
    second_completion_id UUID,
    second_step INTEGER,
    request_id UUID NOT NULL,
    model_fingerprint VARCHAR NOT NULL,
    value DOUBLE,
    mass DOUBLE,
    missing_reason VARCHAR
);
COMMENT ON TABLE calibration_answers IS 'What scorers and judges say of ladders of ever worse answers, in scores and in comparisons, and what the controversial track''s judge says of standard answers.';
COMMENT ON COLUMN calibration_answers.scorer IS 'The track whose scorer is tried: standard or controversial.';
COMMENT ON COLUMN calibration_answers.asked_as IS 'score (of a rung), comparison (of two rungs, by the judge of comparisons), or standard (a score of a standard answer, by the controversial track''s judge).';
COMMENT ON COLUMN calibration_answers.prompt_id IS 'The prompt.';
COMMENT ON COLUMN calibration_answers.completion_id IS 'What is scored, or shown first: degraded_answers.rung_id, or a completion where asked_as is standard.';
COMMENT ON COLUMN calibration_answers.step IS 'Its step of the ladder, 0 for the answer as it stood; NULL where asked_as is standard.';
COMMENT ON COLUMN calibration_answers.second_completion_id IS 'The rung that is shown second; NULL but for comparisons.';
COMMENT ON COLUMN calibration_answers.second_step IS 'Its step.';
COMMENT ON COLUMN calibration_answers.request_id IS 'The request.';
COMMENT ON COLUMN calibration_answers.model_fingerprint IS 'Who was asked.';
COMMENT ON COLUMN calibration_answers.value IS 'The score as in rewards; of comparisons the log-odds of what is shown first; NULL where there is none.';
COMMENT ON COLUMN calibration_answers.mass IS 'Probability that the labels have together; NULL where none are weighed.';
COMMENT ON COLUMN calibration_answers.missing_reason IS 'Why there is no value.';
