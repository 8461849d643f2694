CREATE TABLE judge_comparisons (
    policy VARCHAR NOT NULL,
    prompt_id UUID NOT NULL,
    first_completion_id UUID NOT NULL,
    second_completion_id UUID NOT NULL,
    request_id UUID NOT NULL,
    first_logprob DOUBLE,
    second_logprob DOUBLE,
    mass DOUBLE,
    missing_reason VARCHAR,
    judge VARCHAR NOT NULL
);
COMMENT ON TABLE judge_comparisons IS 'The judge''s pairwise comparisons of each controversial prompt''s first candidates, each pair in both orders.';
COMMENT ON COLUMN judge_comparisons.policy IS 'The policy whose candidates are compared: the partition.';
COMMENT ON COLUMN judge_comparisons.prompt_id IS 'The prompt.';
COMMENT ON COLUMN judge_comparisons.first_completion_id IS 'The completion shown as reply A.';
COMMENT ON COLUMN judge_comparisons.second_completion_id IS 'The completion shown as reply B.';
COMMENT ON COLUMN judge_comparisons.request_id IS 'The request whose answer this is.';
COMMENT ON COLUMN judge_comparisons.first_logprob IS 'Log-probability of the answer A.';
COMMENT ON COLUMN judge_comparisons.second_logprob IS 'Log-probability of the answer B.';
COMMENT ON COLUMN judge_comparisons.mass IS 'Probability of both answers together.';
COMMENT ON COLUMN judge_comparisons.missing_reason IS 'Why there is no comparison; NULL where there is one.';
COMMENT ON COLUMN judge_comparisons.judge IS 'The judging model.';
