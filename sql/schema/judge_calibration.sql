CREATE TABLE judge_calibration (
    scorer VARCHAR NOT NULL,
    measure VARCHAR NOT NULL,
    about VARCHAR NOT NULL,
    prompts BIGINT NOT NULL,
    value DOUBLE NOT NULL,
    low DOUBLE,
    high DOUBLE
);
COMMENT ON TABLE judge_calibration IS 'How far the scorer of each track can be trusted: does it see that answers get worse, and what else moves its scores (docs/instruments.md)?';
COMMENT ON COLUMN judge_calibration.scorer IS 'The track whose scorer is measured: standard or controversial.';
COMMENT ON COLUMN judge_calibration.measure IS 'What is measured.';
COMMENT ON COLUMN judge_calibration.about IS 'Of which part: a step of the ladder, scores or comparisons, or all.';
COMMENT ON COLUMN judge_calibration.prompts IS 'How many prompts the figure rests on.';
COMMENT ON COLUMN judge_calibration.value IS 'The mean over those prompts.';
COMMENT ON COLUMN judge_calibration.low IS 'The lower end of its interval of 95%; NULL with one prompt.';
COMMENT ON COLUMN judge_calibration.high IS 'Its upper end.';
