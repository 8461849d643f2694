-- How are rewards spread? Completions of each track, model and variant by reward, in thirty steps from a model's lowest
-- reward to its highest; reward is the lower end of a step.
-- Page: rewards as bars: reward, completions, variant
WITH ranges AS (
    SELECT model, min(reward) AS lowest, greatest(max(reward) - min(reward), 1e-9) / 30 AS width
    FROM rewards
    WHERE isfinite(reward)
    GROUP BY model
)
SELECT
    track,
    model,
    variant,
    round(lowest + width * least(floor((rewards.reward - lowest) / width), 29), 3) AS reward,
    count(*) AS completions
FROM rewards
JOIN ranges USING (model)
WHERE isfinite(rewards.reward)
GROUP BY ALL
ORDER BY track, model, reward, variant
