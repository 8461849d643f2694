CREATE TABLE inference_forecasts (
    made_at TIMESTAMP NOT NULL,
    asset VARCHAR NOT NULL,
    partition VARCHAR,
    model VARCHAR NOT NULL,
    task VARCHAR NOT NULL,
    requests BIGINT NOT NULL,
    prompt_tokens BIGINT,
    completion_tokens BIGINT,
    seconds DOUBLE,
    bytes BIGINT,
    basis VARCHAR NOT NULL
);
COMMENT ON TABLE inference_forecasts IS 'What was expected of inference: one row for each partition, model and task that had requests pending when a forecast was made.';
COMMENT ON COLUMN inference_forecasts.made_at IS 'When the forecast was made, UTC; the rows of one forecast share it.';
COMMENT ON COLUMN inference_forecasts.asset IS 'The asset that asks.';
COMMENT ON COLUMN inference_forecasts.partition IS 'Its partition; NULL where it has none.';
COMMENT ON COLUMN inference_forecasts.model IS 'The recipe''s name of the model that answers.';
COMMENT ON COLUMN inference_forecasts.task IS 'generate, grade, rate, compare or classify.';
COMMENT ON COLUMN inference_forecasts.requests IS 'Requests that were pending.';
COMMENT ON COLUMN inference_forecasts.prompt_tokens IS 'Tokens of their prompts; NULL without runs to go by, as in the columns that follow.';
COMMENT ON COLUMN inference_forecasts.completion_tokens IS 'Tokens to be generated.';
COMMENT ON COLUMN inference_forecasts.seconds IS 'Seconds of answering with as many engines as in the last run, loading apart.';
COMMENT ON COLUMN inference_forecasts.bytes IS 'Bytes that the answers add to the spool.';
COMMENT ON COLUMN inference_forecasts.basis IS 'What the figures go by: runs, pilot, runs of another fingerprint, or no runs yet.';
