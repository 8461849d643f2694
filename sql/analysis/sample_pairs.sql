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
    chosen_variant,
    rejected_model,
    rejected_variant,
    round(chosen_reward, 4) AS chosen_reward,
    round(rejected_reward, 4) AS rejected_reward,
    prompt[-1].content AS prompt,
    chosen[1].content AS chosen,
    rejected[1].content AS rejected
FROM dpo_pairs
SEMI JOIN drawn USING (pair_id)
ORDER BY policy, pair_id
