-- What is to be watched of the pairs, from one making of a policy's training set to the next?
-- Page: dpo_pairs as numbers
SELECT
    round(avg(chosen_reward - rejected_reward), 4) AS mean_margin,
    round(count(*) FILTER (chosen_tokens > rejected_tokens) / count(*), 4) AS chosen_longer_share,
    round(avg(chosen_tokens), 4) AS mean_chosen_tokens,
    round(avg(rejected_tokens), 4) AS mean_rejected_tokens,
    round(count(*) FILTER (chosen_model = policy) / count(*), 4) AS chosen_by_policy_share
FROM dpo_pairs
