-- What is to be watched of the rewards, from one making of a model's rewards to the next? A correlation with length
-- says how far the scorer likes long answers; of more than 200,000 rewards it is that of a sixteenth, drawn by ids,
-- which are hashes.
-- Page: rewards as numbers
WITH counted AS (
    SELECT
        round(count(reward) / count(*), 4) AS rewarded_share,
        round(avg(reward), 4) AS mean_reward,
        round(stddev_samp(reward) FILTER (abs(reward) < 1e150), 4) AS reward_deviation,
        round(avg(score_mass), 4) AS mean_score_mass,
        CASE WHEN count(*) > 200000 THEN '10000000-0000-0000-0000-000000000000'::UUID END AS drawn_below
    FROM rewards
),
drawn AS (
    SELECT completion_id, reward
    FROM rewards
    CROSS JOIN counted
    WHERE abs(reward) < 1e150 AND completion_id < coalesce(drawn_below, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
),
correlated AS (
    SELECT round(corr(drawn.reward, text_tokens), 4) AS correlation_with_length
    FROM drawn
    JOIN completions USING (completion_id)
)
SELECT * EXCLUDE (drawn_below) FROM counted CROSS JOIN correlated
