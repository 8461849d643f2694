-- In which languages are a policy's pairs? The language is that of the prompt as its source tells it; und where it does
-- not.
-- Page: training_export
SELECT
    policy,
    language,
    count(*) AS pairs,
    round(count(*) / sum(count(*)) OVER (PARTITION BY policy), 4) AS share_of_policy
FROM dpo_pairs
JOIN alignment_prompts USING (prompt_id)
GROUP BY policy, language
ORDER BY policy, pairs DESC, language
