-- What will the pending requests take, going by what runs of the same model and task took? The command
-- `forecast` gives $pending, a JSON list, in the order in which it is worked off. Speed is that of the
-- runs: engines that a small pilot does not fill are faster at scale.
WITH listed AS (
    SELECT unnest(
        from_json($pending, '[{
            "position": "BIGINT", "asset": "VARCHAR", "partition": "VARCHAR", "model": "VARCHAR",
            "task": "VARCHAR", "model_fingerprint": "VARCHAR", "requests": "BIGINT", "exact": "BOOLEAN",
            "prompt_price": "DOUBLE", "completion_price": "DOUBLE", "engines": "BIGINT"
        }]'),
        max_depth := 2)
),
pending AS (
    SELECT
        min(position) AS position, asset, partition, model, task, model_fingerprint,
        CASE WHEN count(requests) = count(*) THEN sum(requests)::BIGINT END AS pending,
        bool_and(exact) AS exact,
        any_value(prompt_price) AS prompt_price,
        any_value(completion_price) AS completion_price,
        -- That would answer now, where it can be told.
        any_value(engines) AS engines_now
    FROM listed
    GROUP BY asset, partition, model, task, model_fingerprint
),
runs AS (
    SELECT
        *,
        -- Engines claim requests 64 at a time: a small pilot keeps only some of them busy.
        seconds * least(engines, ceil(requests / 64)) AS engine_seconds
    FROM inference_runs
    WHERE answered > 0
),
-- Per request, and once more for all fingerprints of a model together (model_fingerprint is NULL).
rates AS (
    SELECT
        model, task, model_fingerprint,
        sum(prompt_tokens) / sum(answered) AS prompt_tokens,
        sum(cached_tokens) / sum(answered) AS cached_tokens,
        sum(completion_tokens) / sum(answered) AS completion_tokens,
        sum(spool_bytes) / sum(answered) AS bytes,
        sum(engine_seconds) / sum(answered) AS engine_seconds,
        arg_max(engines, started_at) AS engines,
        arg_max(gpus, started_at) AS gpus,
        -- Engines that were running already take no time to load, and say nothing about it.
        coalesce(avg(seconds_loading) FILTER (seconds_loading > 1), 0) AS seconds_loading,
        bool_and(dagster_run_id IS NULL) AS only_pilots
    FROM runs
    GROUP BY GROUPING SETS ((model, task, model_fingerprint), (model, task))
),
expected AS (
    SELECT
        pending.*,
        rates.* EXCLUDE (model, task, model_fingerprint),
        CASE
            WHEN rates.model IS NULL THEN 'no runs yet'
            WHEN rates.model_fingerprint IS NULL THEN 'runs of another fingerprint'
            WHEN only_pilots THEN 'pilot'
            ELSE 'runs'
        END AS basis,
        pending * engine_seconds / coalesce(engines_now, engines) AS seconds
    FROM pending
    LEFT JOIN rates
        ON rates.model = pending.model
        AND rates.task = pending.task
        AND (
            rates.model_fingerprint = pending.model_fingerprint OR rates.model_fingerprint IS NULL
        )
    WHERE pending IS NULL OR pending > 0
    -- Its own fingerprint's rates first.
    QUALIFY row_number() OVER (PARTITION BY position ORDER BY rates.model_fingerprint NULLS LAST) = 1
)
SELECT
    asset,
    partition,
    model,
    task,
    pending,
    if(exact, 'exact', 'expected') AS counted,
    round(pending * prompt_tokens)::BIGINT AS prompt_tokens,
    round(pending * cached_tokens)::BIGINT AS cached_tokens,
    round(pending * completion_tokens)::BIGINT AS completion_tokens,
    round(pending * engine_seconds / 3600, 4) AS engine_hours,
    round(pending * engine_seconds * gpus / engines / 3600, 4) AS gpu_hours,
    -- In the currency of the recipe's prices.
    round(pending * (prompt_tokens * prompt_price + completion_tokens * completion_price) / 1e6, 4) AS to_pay,
    round(pending * bytes)::BIGINT AS bytes,
    round(seconds, 4) AS seconds,
    round(seconds_loading, 4) AS seconds_loading,
    -- From the start of the first to the end of this one; unknown after one that is.
    CASE WHEN bool_and(seconds IS NOT NULL) OVER earlier THEN
        round(sum(seconds + seconds_loading) OVER earlier, 4)
    END AS ends_after_seconds,
    basis
FROM expected
WINDOW earlier AS (ORDER BY position)
ORDER BY position
