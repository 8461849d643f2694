-- How good was the forecast? For each partition the last forecast that runs followed, scaled to the
-- requests that they answered, beside what they took. A ratio above 1: more than was forecast.
WITH followed AS (
    SELECT
        runs.asset, runs.partition, runs.model, runs.task, forecasts.made_at,
        runs.answered,
        runs.prompt_tokens, runs.completion_tokens, runs.seconds, runs.spool_bytes,
        runs.answered / forecasts.requests AS share,
        forecasts.prompt_tokens AS forecast_prompt_tokens,
        forecasts.completion_tokens AS forecast_completion_tokens,
        forecasts.seconds AS forecast_seconds,
        forecasts.bytes AS forecast_bytes
    FROM (SELECT * FROM inference_runs WHERE answered > 0) AS runs
    ASOF JOIN (SELECT * FROM inference_forecasts WHERE seconds IS NOT NULL) AS forecasts
        ON runs.asset = forecasts.asset
        AND coalesce(runs.partition, '') = coalesce(forecasts.partition, '')
        AND runs.model = forecasts.model
        AND runs.task = forecasts.task
        AND runs.started_at >= forecasts.made_at
    QUALIFY made_at = max(made_at) OVER (
        PARTITION BY runs.asset, runs.partition, runs.model, runs.task)
),
compared AS (
    SELECT
        asset, partition, model, task, made_at,
        sum(answered)::BIGINT AS requests,
        sum(prompt_tokens)::BIGINT AS prompt_tokens,
        round(sum(share * forecast_prompt_tokens))::BIGINT AS forecast_prompt_tokens,
        sum(completion_tokens)::BIGINT AS completion_tokens,
        round(sum(share * forecast_completion_tokens))::BIGINT AS forecast_completion_tokens,
        round(sum(seconds), 4) AS seconds,
        round(sum(share * forecast_seconds), 4) AS forecast_seconds,
        sum(spool_bytes)::BIGINT AS bytes,
        round(sum(share * forecast_bytes))::BIGINT AS forecast_bytes
    FROM followed
    GROUP BY asset, partition, model, task, made_at
)
SELECT
    asset,
    partition,
    model,
    task,
    made_at,
    requests,
    forecast_prompt_tokens,
    prompt_tokens,
    round(prompt_tokens / nullif(forecast_prompt_tokens, 0), 2) AS prompt_tokens_ratio,
    forecast_completion_tokens,
    completion_tokens,
    round(completion_tokens / nullif(forecast_completion_tokens, 0), 2) AS completion_tokens_ratio,
    forecast_seconds,
    seconds,
    round(seconds / nullif(forecast_seconds, 0), 2) AS seconds_ratio,
    forecast_bytes,
    bytes,
    round(bytes / nullif(forecast_bytes, 0), 2) AS bytes_ratio
FROM compared
ORDER BY made_at, asset, partition, model, task
