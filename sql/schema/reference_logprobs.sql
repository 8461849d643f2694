CREATE TABLE reference_logprobs (
    policy VARCHAR NOT NULL,
    prompt_id UUID NOT NULL,
    completion_id UUID NOT NULL,
    request_id UUID NOT NULL,
    logprob DOUBLE,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    missing_reason VARCHAR,
    model_fingerprint VARCHAR NOT NULL
);
COMMENT ON TABLE reference_logprobs IS 'The policy''s own log-probability of each selected completion, as a DPO or QRPO trainer needs it of its reference model.';
COMMENT ON COLUMN reference_logprobs.policy IS 'The policy: the partition.';
COMMENT ON COLUMN reference_logprobs.prompt_id IS 'The prompt answered.';
COMMENT ON COLUMN reference_logprobs.completion_id IS 'The completion.';
COMMENT ON COLUMN reference_logprobs.request_id IS 'The request that this is the answer to.';
COMMENT ON COLUMN reference_logprobs.logprob IS 'The sum of the log-probabilities (natural logarithm) of the completion''s tokens, those that end the turn among them; NULL with a reason.';
COMMENT ON COLUMN reference_logprobs.prompt_tokens IS 'Tokens before the completion, as the policy''s engine counted them.';
COMMENT ON COLUMN reference_logprobs.completion_tokens IS 'Tokens of which logprob is the sum.';
COMMENT ON COLUMN reference_logprobs.missing_reason IS 'Why there is no log-probability; NULL where there is one.';
COMMENT ON COLUMN reference_logprobs.model_fingerprint IS 'The policy''s weights, chat template, its arguments and template date, as one hash.';
