-- Which engines answered for each model, in which version and with which weights, and what did it take? Completions
-- that came with the spool, and are in no ledger, tell their engine alone. fingerprint is its first 12 digits.
WITH ledger AS (
    SELECT
        model,
        task,
        engine,
        engine_version,
        model_fingerprint,
        -- Where a folder is concerns one machine alone.
        if(starts_with(weights, '/'), regexp_extract(weights, '[^/]*$'), weights) AS weights,
        sum(answered)::BIGINT AS answers,
        sum(failed)::BIGINT AS failed,
        max(gpus) AS most_gpus,
        round(sum(seconds) / 3600, 4) AS hours,
        round(sum(completion_tokens) / nullif(sum(seconds), 0), 4) AS tokens_per_second
    FROM inference_runs
    WHERE answered > 0
    GROUP BY ALL
),
spooled AS (
    SELECT
        model,
        'generate' AS task,
        engine,
        engine_version,
        model_fingerprint,
        count(*) AS answers,
        count(*) FILTER (finish_reason = 'failed') AS failed
    FROM completions
    ANTI JOIN (SELECT * FROM ledger WHERE task = 'generate') USING (model, model_fingerprint)
    GROUP BY ALL
)
SELECT
    model,
    task,
    engine,
    engine_version,
    weights,
    left(model_fingerprint, 12) AS fingerprint,
    answers,
    failed,
    most_gpus,
    hours,
    tokens_per_second
FROM (FROM ledger UNION ALL BY NAME FROM spooled)
ORDER BY model, task, engine, engine_version, fingerprint, weights
