-- What is to be watched of the answers, from one making of a model's completions to the next?
-- Page: completions as numbers
SELECT
    count(*) AS completions,
    round(count(*) FILTER (finish_reason = 'length') / count(*), 4) AS truncated_share,
    round(count(*) FILTER (text_tokens IS NULL OR text_tokens = 0) / count(*), 4) AS without_text_share,
    round(avg(text_tokens), 4) AS mean_text_tokens,
    round(median(text_tokens), 4) AS median_text_tokens
FROM completions
