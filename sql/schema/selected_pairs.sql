CREATE TABLE selected_pairs (
    policy VARCHAR NOT NULL,
    prompt_id UUID NOT NULL,
    track VARCHAR NOT NULL,
    pair_index INTEGER NOT NULL,
    chosen_completion_id UUID NOT NULL,
    rejected_completion_id UUID NOT NULL,
    chosen_normal_hash UBIGINT NOT NULL,
    rejected_normal_hash UBIGINT NOT NULL,
    chosen_reward DOUBLE NOT NULL,
    rejected_reward DOUBLE NOT NULL,
    chosen_quantile DOUBLE NOT NULL,
    rejected_quantile DOUBLE NOT NULL,
    chosen_band VARCHAR NOT NULL,
    rejected_band VARCHAR NOT NULL
);
COMMENT ON TABLE selected_pairs IS 'Which completions are chosen and rejected for each prompt and policy, by the strategy that the recipe names (report, section 4.1.4); the texts are in dpo_pairs.';
COMMENT ON COLUMN selected_pairs.policy IS 'The policy to align: the partition.';
COMMENT ON COLUMN selected_pairs.prompt_id IS 'The prompt.';
COMMENT ON COLUMN selected_pairs.track IS 'The prompt''s track.';
COMMENT ON COLUMN selected_pairs.pair_index IS 'Which pair of the prompt, from 0.';
COMMENT ON COLUMN selected_pairs.chosen_completion_id IS 'The chosen completion.';
COMMENT ON COLUMN selected_pairs.rejected_completion_id IS 'The rejected completion.';
COMMENT ON COLUMN selected_pairs.chosen_normal_hash IS 'The hash of the chosen text in normal form.';
COMMENT ON COLUMN selected_pairs.rejected_normal_hash IS 'The hash of the rejected text in normal form.';
COMMENT ON COLUMN selected_pairs.chosen_reward IS 'The reward that selection used; always above rejected_reward.';
COMMENT ON COLUMN selected_pairs.rejected_reward IS 'The reward that selection used.';
COMMENT ON COLUMN selected_pairs.chosen_quantile IS 'The chosen completion''s quantile reward.';
COMMENT ON COLUMN selected_pairs.rejected_quantile IS 'The rejected completion''s quantile reward.';
COMMENT ON COLUMN selected_pairs.chosen_band IS 'The band of the chosen completion: above_all, best, middle or worst.';
COMMENT ON COLUMN selected_pairs.rejected_band IS 'The band of the rejected completion: above_all, best, middle or worst.';
