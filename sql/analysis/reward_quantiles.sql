-- How do the models' answers stand among a policy's own? Quantiles and bands of each model and
-- variant; the policy's references are there too, to compare with.
-- Page: quantile_rewards
SELECT
    policy,
    track,
    model,
    variant,
    count(*) AS candidates,
    count(quantile) AS with_quantile,
    round(avg(quantile), 4) AS mean_quantile,
    round(count(*) FILTER (band = 'above_all') / nullif(count(band), 0), 4) AS above_all_share,
    round(count(*) FILTER (band = 'best') / nullif(count(band), 0), 4) AS best_share,
    round(count(*) FILTER (band = 'middle') / nullif(count(band), 0), 4) AS middle_share,
    round(count(*) FILTER (band = 'worst') / nullif(count(band), 0), 4) AS worst_share
FROM quantile_rewards
GROUP BY policy, track, model, variant
ORDER BY policy, track, mean_quantile DESC NULLS LAST, model, variant
