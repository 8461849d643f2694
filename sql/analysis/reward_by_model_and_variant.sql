-- How do each model's completions score under each variant? Scores as the scorer gave them: compare
-- within a track alone. On the controversial track, selection uses the judge's rank instead.
-- Page: rewards
SELECT
    track,
    model,
    variant,
    count(*) AS completions,
    count(reward) AS rewarded,
    round(avg(reward), 4) AS mean_reward,
    round(median(reward), 4) AS median_reward,
    round(stddev_samp(reward) FILTER (abs(reward) < 1e150), 4) AS deviation,
    scorer
FROM rewards
GROUP BY track, model, variant, scorer
ORDER BY track, mean_reward DESC NULLS LAST, model, variant, scorer
