-- Which languages are the prompts in that each model answers, and how long are the answers to them? A language is what
-- the prompt's source says; und where it says none.
-- Page: completions as bars: language, completions
SELECT
    model,
    language,
    count(*) AS completions,
    round(count(*) / sum(count(*)) OVER (PARTITION BY model), 4) AS share_of_model,
    round(avg(text_tokens), 4) AS mean_text_tokens,
    round(count(*) FILTER (finish_reason = 'length') / count(*), 4) AS truncated_share
FROM completions
JOIN alignment_prompts USING (prompt_id)
GROUP BY model, language
ORDER BY model, completions DESC, language
