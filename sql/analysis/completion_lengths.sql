-- How long are the answers? Completions by the tokens of their text, in steps of powers of two; tokens is the longest
-- of a step.
-- Page: completions as bars: tokens, completions, variant
SELECT
    model,
    variant,
    CASE WHEN text_tokens > 0 THEN 2 ** ceil(log2(text_tokens)) ELSE 0 END::BIGINT AS tokens,
    count(*) AS completions,
    round(count(*) / sum(count(*)) OVER (PARTITION BY model, variant), 4) AS share_of_variant
FROM completions
WHERE text_tokens IS NOT NULL
GROUP BY model, variant, tokens
ORDER BY model, tokens, variant
