CREATE TABLE selection_report (
    policy VARCHAR NOT NULL,
    strategy VARCHAR,
    seed BIGINT,
    measure VARCHAR NOT NULL,
    about VARCHAR,
    value DOUBLE NOT NULL,
    previous_value DOUBLE
);
COMMENT ON TABLE selection_report IS 'What each strategy of sql/selection makes of the same rewards, as one row a measure; no engine is asked.';
COMMENT ON COLUMN selection_report.policy IS 'The policy: the partition.';
COMMENT ON COLUMN selection_report.strategy IS 'The strategy; NULL for what holds whatever the strategy.';
COMMENT ON COLUMN selection_report.seed IS 'The seed of its draws: the recipe''s, or for the recipe''s strategy the next one, too; NULL without a strategy.';
COMMENT ON COLUMN selection_report.measure IS 'pairs (how many); chosen, rejected (share of a model and variant); chosen_band, rejected_band, language (share of pairs); margin, quantile_margin (mean); chosen_tokens, rejected_tokens (mean); chosen_longer, rejected_longer (share of pairs, by tokens); same_pairs (shared with another draw, of all that either has); same_chosen, same_rejected (share of this one''s completions that the other has on that side); reference_distance (Kolmogorov-Smirnov distance of the references'' quantiles from even ones).';
COMMENT ON COLUMN selection_report.about IS 'What the measure is of: a track or all, a model and variant, a band, a language, or the other draw.';
COMMENT ON COLUMN selection_report.value IS 'The measure.';
COMMENT ON COLUMN selection_report.previous_value IS 'What it was when it was last another.';
