-- What do pairs look like? Three of each policy, drawn by their ids, which are hashes. row_id is the
-- pair_id, which pair_trace takes.
-- Page: dpo_pairs as texts
WITH drawn AS (
    SELECT unnest(min(pair_id, 3)) AS pair_id
    FROM dpo_pairs
    GROUP BY policy
)
SELECT
    pair_id AS row_id,
    prompt_id,
    policy,
    track,
    chosen_model,
    rejected_model,
    round(chosen_reward, 4) AS chosen_reward,
    round(rejected_reward, 4) AS rejected_reward,
    left(prompt[-1].content, 400) AS prompt,
    left(chosen[1].content, 400) AS chosen,
    left(rejected[1].content, 400) AS rejected
FROM dpo_pairs
SEMI JOIN drawn USING (pair_id)
ORDER BY policy, pair_id
