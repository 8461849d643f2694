-- Are the principles and their wordings drawn evenly, and how do answers under each fare? Counts of
-- all models; chosen and rejected are over the pairs of all policies.
WITH sides AS (
    SELECT chosen_completion_id AS completion_id, 1 AS chosen, 0 AS rejected
    FROM dpo_pairs
    UNION ALL
    SELECT rejected_completion_id, 0, 1
    FROM dpo_pairs
),
selected AS (
    SELECT completion_id, sum(chosen) AS chosen, sum(rejected) AS rejected
    FROM sides
    GROUP BY completion_id
)
SELECT
    wordings.principle,
    wording_id,
    count(completion_id) AS requests,
    round(count(completion_id) / nullif(sum(count(completion_id)) OVER (), 0), 4) AS share,
    round(avg(reward), 4) AS mean_reward,
    coalesce(sum(chosen), 0)::BIGINT AS chosen,
    coalesce(sum(rejected), 0)::BIGINT AS rejected,
    wordings.text
FROM wordings
LEFT JOIN completion_requests USING (wording_id)
LEFT JOIN rewards USING (completion_id)
LEFT JOIN selected USING (completion_id)
WHERE kind = 'principle'
GROUP BY wordings.principle, wording_id, wordings.text
ORDER BY wordings.principle, wording_id
