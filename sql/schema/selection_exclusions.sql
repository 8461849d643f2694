CREATE TABLE selection_exclusions (
    policy VARCHAR NOT NULL,
    prompt_id UUID NOT NULL,
    track VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    n_references INTEGER NOT NULL,
    n_candidates INTEGER NOT NULL,
    n_eligible INTEGER NOT NULL
);
COMMENT ON TABLE selection_exclusions IS 'Every prompt that gives a policy no pair, with the reason.';
COMMENT ON COLUMN selection_exclusions.policy IS 'The policy: the partition.';
COMMENT ON COLUMN selection_exclusions.prompt_id IS 'The prompt.';
COMMENT ON COLUMN selection_exclusions.track IS 'Its track.';
COMMENT ON COLUMN selection_exclusions.reason IS 'too_few_references, too_few_eligible (fewer than two completions can be selected), all_rewards_equal, all_texts_equal, or not_selected (the recipe''s strategy takes no pair of it).';
COMMENT ON COLUMN selection_exclusions.n_references IS 'Reference completions that have a reward.';
COMMENT ON COLUMN selection_exclusions.n_candidates IS 'Candidates of the prompt.';
COMMENT ON COLUMN selection_exclusions.n_eligible IS 'Candidates that can be selected.';
