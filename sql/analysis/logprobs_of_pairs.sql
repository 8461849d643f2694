-- Does the policy find chosen answers likelier than rejected ones, before it is trained?
-- Page: reference_logprobs
WITH sides AS (
    SELECT policy, track, 'chosen' AS side, chosen_completion_id AS completion_id FROM selected_pairs
    UNION ALL
    SELECT policy, track, 'rejected', rejected_completion_id FROM selected_pairs
)
SELECT
    policy,
    track,
    side,
    count(*) AS completions,
    count(*) FILTER (logprob IS NULL) AS without_logprob,
    -- Decimals add up to the same in any order.
    round(avg(logprob::DECIMAL(18, 4)), 4) AS mean_logprob,
    round(
        sum(logprob::DECIMAL(18, 4)) / nullif(sum(completion_tokens) FILTER (logprob IS NOT NULL), 0), 4
    ) AS logprob_of_a_token,
    round(avg(completion_tokens), 4) AS mean_tokens
FROM sides
JOIN reference_logprobs USING (policy, completion_id)
GROUP BY policy, track, side
ORDER BY policy, track, side
