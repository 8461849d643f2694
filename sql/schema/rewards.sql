CREATE TABLE rewards (
    completion_id UUID NOT NULL,
    request_id UUID,
    prompt_id UUID NOT NULL,
    track VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    variant VARCHAR NOT NULL,
    sample_index INTEGER NOT NULL,
    reward DOUBLE,
    missing_reason VARCHAR,
    scorer VARCHAR NOT NULL,
    scorer_fingerprint VARCHAR,
    task VARCHAR NOT NULL,
    score_mass DOUBLE,
    label_logprobs STRUCT(label VARCHAR, logprob DOUBLE)[]
);
COMMENT ON TABLE rewards IS 'The score of each completion, by the reward model or the judge of its track (report, section 4.1.4).';
COMMENT ON COLUMN rewards.completion_id IS 'The scored completion.';
COMMENT ON COLUMN rewards.request_id IS 'The scoring request; NULL where there was nothing to score.';
COMMENT ON COLUMN rewards.prompt_id IS 'The prompt answered.';
COMMENT ON COLUMN rewards.track IS 'The prompt''s track, which decides the scorer.';
COMMENT ON COLUMN rewards.model IS 'The model or policy that answered: the partition.';
COMMENT ON COLUMN rewards.variant IS 'The completion''s variant.';
COMMENT ON COLUMN rewards.sample_index IS 'Which of several samples of the same variant, from 0.';
COMMENT ON COLUMN rewards.reward IS 'A classifier''s raw logit, or the probability-weighted mean of the labels that a judge weighed (rate: 1 to 9). NULL with a reason.';
COMMENT ON COLUMN rewards.missing_reason IS 'Why there is no reward; NULL where there is one.';
COMMENT ON COLUMN rewards.scorer IS 'The scoring model.';
COMMENT ON COLUMN rewards.scorer_fingerprint IS 'The scorer''s weights, chat template, its arguments and template date, as one hash; NULL where nothing was asked.';
COMMENT ON COLUMN rewards.task IS 'What the scorer was asked, a file of sql/requests/rewards: classify (a reward model''s logit), rate (a judge''s number).';
COMMENT ON COLUMN rewards.score_mass IS 'The probability that the judge gave to the labels together; NULL for a logit.';
COMMENT ON COLUMN rewards.label_logprobs IS 'The log-probability of each label; NULL for a logit.';
