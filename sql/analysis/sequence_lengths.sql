-- How long are training rows to the policy? Candidates by the tokens of prompt and answer together, in steps of powers
-- of two; tokens is the longest of a step, and too_long how many the recipe does not take
-- (selection.max_sequence_tokens).
-- Page: policy_tokens as bars: tokens, candidates, policy
SELECT
    policy,
    (2 ** ceil(log2(prompt_tokens + completion_tokens)))::BIGINT AS tokens,
    count(*) AS candidates,
    count(*) FILTER (prompt_tokens + completion_tokens > $selection_max_sequence_tokens) AS too_long,
    round(avg(prompt_tokens), 4) AS mean_prompt_tokens,
    round(avg(completion_tokens), 4) AS mean_completion_tokens
FROM policy_tokens
WHERE prompt_tokens + completion_tokens > 0
GROUP BY policy, tokens
ORDER BY policy, tokens
