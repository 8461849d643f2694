-- How do each model's answers end, and how long are they? Truncated ones (length) count as references but
-- are not selected unless the recipe allows it; refused ones did not fit the engine or its rules.
-- Page: completions
SELECT
    model,
    variant,
    count(*) AS completions,
    count(*) FILTER (finish_reason = 'stop') AS stopped,
    count(*) FILTER (finish_reason = 'length') AS truncated,
    count(*) FILTER (finish_reason IN ('context_length', 'rejected')) AS refused,
    round(count(*) FILTER (finish_reason = 'length') / count(*), 4) AS cut_share,
    round(avg(prompt_tokens), 4) AS mean_prompt_tokens,
    round(avg(completion_tokens), 4) AS mean_tokens,
    round(median(completion_tokens), 4) AS median_tokens,
    max(completion_tokens) AS most_tokens
FROM completions
GROUP BY model, variant
ORDER BY model, variant
