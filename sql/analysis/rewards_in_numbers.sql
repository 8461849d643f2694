-- What is to be watched of the rewards, from one making of a model's rewards to the next? A correlation with length
-- says how far the scorer likes long answers.
-- Page: rewards as numbers
SELECT
    round(count(reward) / count(*), 4) AS rewarded_share,
    round(avg(reward), 4) AS mean_reward,
    round(stddev_samp(reward) FILTER (abs(reward) < 1e150), 4) AS reward_deviation,
    round(avg(score_mass), 4) AS mean_score_mass,
    round(corr(reward, text_tokens) FILTER (abs(reward) < 1e150), 4) AS correlation_with_length
FROM rewards
LEFT JOIN completions USING (completion_id)
