CREATE TABLE dpo_pairs (
    pair_id UUID NOT NULL,
    policy VARCHAR NOT NULL,
    prompt_id UUID NOT NULL,
    track VARCHAR NOT NULL,
    pair_index INTEGER NOT NULL,
    prompt STRUCT(role VARCHAR, content VARCHAR)[] NOT NULL,
    chosen STRUCT(role VARCHAR, content VARCHAR)[] NOT NULL,
    rejected STRUCT(role VARCHAR, content VARCHAR)[] NOT NULL,
    chosen_completion_id UUID NOT NULL,
    rejected_completion_id UUID NOT NULL,
    chosen_model VARCHAR NOT NULL,
    rejected_model VARCHAR NOT NULL,
    chosen_variant VARCHAR NOT NULL,
    rejected_variant VARCHAR NOT NULL,
    chosen_reward DOUBLE NOT NULL,
    rejected_reward DOUBLE NOT NULL,
    chosen_quantile DOUBLE NOT NULL,
    rejected_quantile DOUBLE NOT NULL,
    chosen_band VARCHAR NOT NULL,
    rejected_band VARCHAR NOT NULL,
    chosen_tokens INTEGER,
    rejected_tokens INTEGER,
    reference_rewards DOUBLE[] NOT NULL
);
COMMENT ON TABLE dpo_pairs IS 'The selected pairs with their texts, ready for a DPO trainer (report, section 4.1.4).';
COMMENT ON COLUMN dpo_pairs.pair_id IS 'The first 128 bits of the sha256 of policy, prompt and pair index.';
COMMENT ON COLUMN dpo_pairs.policy IS 'The policy to align: the partition.';
COMMENT ON COLUMN dpo_pairs.prompt_id IS 'The prompt.';
COMMENT ON COLUMN dpo_pairs.track IS 'The prompt''s track.';
COMMENT ON COLUMN dpo_pairs.pair_index IS 'Which pair of the prompt, from 0.';
COMMENT ON COLUMN dpo_pairs.prompt IS 'The conversation as read; no system prompt of ours.';
COMMENT ON COLUMN dpo_pairs.chosen IS 'The chosen completion as one assistant message.';
COMMENT ON COLUMN dpo_pairs.rejected IS 'The rejected completion as one assistant message.';
COMMENT ON COLUMN dpo_pairs.chosen_completion_id IS 'The chosen completion.';
COMMENT ON COLUMN dpo_pairs.rejected_completion_id IS 'The rejected completion.';
COMMENT ON COLUMN dpo_pairs.chosen_model IS 'Who wrote the chosen one.';
COMMENT ON COLUMN dpo_pairs.rejected_model IS 'Who wrote the rejected one.';
COMMENT ON COLUMN dpo_pairs.chosen_variant IS 'The chosen one''s variant.';
COMMENT ON COLUMN dpo_pairs.rejected_variant IS 'The rejected one''s variant.';
COMMENT ON COLUMN dpo_pairs.chosen_reward IS 'The reward that selection used; always above rejected_reward.';
COMMENT ON COLUMN dpo_pairs.rejected_reward IS 'The reward that selection used.';
COMMENT ON COLUMN dpo_pairs.chosen_quantile IS 'Its quantile reward.';
COMMENT ON COLUMN dpo_pairs.rejected_quantile IS 'Its quantile reward.';
COMMENT ON COLUMN dpo_pairs.chosen_band IS 'The band of the chosen completion: above_all, best, middle or worst.';
COMMENT ON COLUMN dpo_pairs.rejected_band IS 'The band of the rejected completion: above_all, best, middle or worst.';
COMMENT ON COLUMN dpo_pairs.chosen_tokens IS 'Its tokens in the training row, by the policy''s tokenizer; see policy_tokens.';
COMMENT ON COLUMN dpo_pairs.rejected_tokens IS 'Its tokens in the training row, by the policy''s tokenizer; see policy_tokens.';
COMMENT ON COLUMN dpo_pairs.reference_rewards IS 'The rewards of the policy''s reference completions of this prompt, ascending.';
