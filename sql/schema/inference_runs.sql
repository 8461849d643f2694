CREATE TABLE inference_runs (
    inference_run_id VARCHAR NOT NULL,
    dagster_run_id VARCHAR,
    asset VARCHAR NOT NULL,
    partition VARCHAR,
    task VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    model_fingerprint VARCHAR NOT NULL,
    weights VARCHAR NOT NULL,
    engine VARCHAR NOT NULL,
    engine_version VARCHAR NOT NULL,
    engines INTEGER NOT NULL,
    gpus INTEGER NOT NULL,
    requests BIGINT NOT NULL,
    answered BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    restarts INTEGER NOT NULL,
    seconds_loading DOUBLE NOT NULL,
    seconds DOUBLE NOT NULL,
    spool_bytes BIGINT NOT NULL,
    outcome VARCHAR NOT NULL,
    started_at TIMESTAMP NOT NULL,
    ended_at TIMESTAMP NOT NULL
);
COMMENT ON TABLE inference_runs IS 'The ledger of inference: one row each time that engines were asked something, whether it ended well or not.';
COMMENT ON COLUMN inference_runs.inference_run_id IS 'Names the row.';
COMMENT ON COLUMN inference_runs.dagster_run_id IS 'The Dagster run; NULL for a pilot.';
COMMENT ON COLUMN inference_runs.asset IS 'The asset that asked.';
COMMENT ON COLUMN inference_runs.partition IS 'Its partition; NULL where it has none.';
COMMENT ON COLUMN inference_runs.task IS 'What the model was asked for: a file of sql/requests (generate, grade, rate, compare, classify).';
COMMENT ON COLUMN inference_runs.model IS 'The recipe''s name of the model that answered.';
COMMENT ON COLUMN inference_runs.model_fingerprint IS 'Weights, chat template, its arguments and template date, as one hash.';
COMMENT ON COLUMN inference_runs.weights IS 'The weights behind the fingerprint: where they are, and their commit or content hash.';
COMMENT ON COLUMN inference_runs.engine IS 'The inference backend.';
COMMENT ON COLUMN inference_runs.engine_version IS 'Its version; several are joined by commas.';
COMMENT ON COLUMN inference_runs.engines IS 'Engines or endpoints that shared the work.';
COMMENT ON COLUMN inference_runs.gpus IS 'GPUs they held together; 0 on a CPU, and for endpoints.';
COMMENT ON COLUMN inference_runs.requests IS 'Requests to answer.';
COMMENT ON COLUMN inference_runs.answered IS 'Requests that ended, those that failed among them.';
COMMENT ON COLUMN inference_runs.failed IS 'Requests that ended without an answer.';
COMMENT ON COLUMN inference_runs.prompt_tokens IS 'Tokens of the prompts answered.';
COMMENT ON COLUMN inference_runs.completion_tokens IS 'Tokens generated.';
COMMENT ON COLUMN inference_runs.cached_tokens IS 'Prompt tokens that came from the engine''s prefix cache.';
COMMENT ON COLUMN inference_runs.restarts IS 'Engines that died and were started again.';
COMMENT ON COLUMN inference_runs.seconds_loading IS 'Seconds until the engines were ready; near 0 where they were running already.';
COMMENT ON COLUMN inference_runs.seconds IS 'Seconds of answering, loading apart.';
COMMENT ON COLUMN inference_runs.spool_bytes IS 'Bytes that the answers added to the spool.';
COMMENT ON COLUMN inference_runs.outcome IS 'done, or what ended it.';
COMMENT ON COLUMN inference_runs.started_at IS 'When it began, UTC.';
COMMENT ON COLUMN inference_runs.ended_at IS 'When it ended, UTC.';
