CREATE TABLE qrpo_samples (
    sample_id UUID NOT NULL,
    policy VARCHAR NOT NULL,
    prompt_id UUID NOT NULL,
    track VARCHAR NOT NULL,
    prompt STRUCT(role VARCHAR, content VARCHAR)[] NOT NULL,
    completion STRUCT(role VARCHAR, content VARCHAR)[] NOT NULL,
    completion_id UUID NOT NULL,
    model VARCHAR NOT NULL,
    variant VARCHAR NOT NULL,
    selected_as VARCHAR NOT NULL,
    reward DOUBLE NOT NULL,
    quantile DOUBLE NOT NULL,
    reference_rewards DOUBLE[] NOT NULL,
    completion_tokens INTEGER
);
COMMENT ON TABLE qrpo_samples IS 'Each selected completion alone with its reward, its quantile and the prompt''s reference rewards, ready for a QRPO trainer.';
COMMENT ON COLUMN qrpo_samples.sample_id IS 'The first 128 bits of the sha256 of policy and completion.';
COMMENT ON COLUMN qrpo_samples.policy IS 'The policy to align: the partition.';
COMMENT ON COLUMN qrpo_samples.prompt_id IS 'The prompt.';
COMMENT ON COLUMN qrpo_samples.track IS 'The prompt''s track.';
COMMENT ON COLUMN qrpo_samples.prompt IS 'The conversation as read; no system prompt of ours.';
COMMENT ON COLUMN qrpo_samples.completion IS 'The completion as one assistant message.';
COMMENT ON COLUMN qrpo_samples.completion_id IS 'The completion.';
COMMENT ON COLUMN qrpo_samples.model IS 'Who wrote it.';
COMMENT ON COLUMN qrpo_samples.variant IS 'Its variant.';
COMMENT ON COLUMN qrpo_samples.selected_as IS 'chosen or rejected: its part in the pair it comes from.';
COMMENT ON COLUMN qrpo_samples.reward IS 'The reward that selection used.';
COMMENT ON COLUMN qrpo_samples.quantile IS 'Share of reference rewards not above the reward.';
COMMENT ON COLUMN qrpo_samples.reference_rewards IS 'The rewards of the policy''s reference completions of this prompt, ascending.';
COMMENT ON COLUMN qrpo_samples.completion_tokens IS 'Its tokens in the training row, by the policy''s tokenizer; see policy_tokens.';
