CREATE TABLE quantile_rewards (
    policy VARCHAR NOT NULL,
    prompt_id UUID NOT NULL,
    completion_id UUID NOT NULL,
    track VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    variant VARCHAR NOT NULL,
    sample_index INTEGER NOT NULL,
    normal_hash UBIGINT,
    reward DOUBLE,
    n_references INTEGER NOT NULL,
    quantile DOUBLE,
    band VARCHAR,
    ineligible_reason VARCHAR
);
COMMENT ON TABLE quantile_rewards IS 'Every candidate for a policy with its quantile reward: its place among the rewards of the policy''s reference completions.';
COMMENT ON COLUMN quantile_rewards.policy IS 'The policy: the partition.';
COMMENT ON COLUMN quantile_rewards.prompt_id IS 'The prompt.';
COMMENT ON COLUMN quantile_rewards.completion_id IS 'The candidate.';
COMMENT ON COLUMN quantile_rewards.track IS 'The prompt''s track.';
COMMENT ON COLUMN quantile_rewards.model IS 'The model or policy that answered.';
COMMENT ON COLUMN quantile_rewards.variant IS 'The completion''s variant.';
COMMENT ON COLUMN quantile_rewards.sample_index IS 'Which of several samples of the same variant, from 0.';
COMMENT ON COLUMN quantile_rewards.normal_hash IS 'The hash of the completion''s text in normal form.';
COMMENT ON COLUMN quantile_rewards.reward IS 'The reward that selection uses: the score on the standard track, the rank on the controversial one.';
COMMENT ON COLUMN quantile_rewards.n_references IS 'Reference completions of the prompt that have a reward.';
COMMENT ON COLUMN quantile_rewards.quantile IS 'Share of reference rewards not above this one; NULL without a reward or references.';
COMMENT ON COLUMN quantile_rewards.band IS 'above_all (above every reference), best (quantile 1), worst (quantile at most max(rejected_quantile, 1/n)) or middle.';
COMMENT ON COLUMN quantile_rewards.ineligible_reason IS 'Why the candidate cannot be chosen or rejected; NULL where it can.';
