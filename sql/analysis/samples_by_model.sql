-- Whose completions are in the samples for QRPO, and how good are they?
-- Page: qrpo_samples as bars: model, samples, selected_as
SELECT
    policy,
    track,
    model,
    variant,
    selected_as,
    count(*) AS samples,
    round(count(*) / sum(count(*)) OVER (PARTITION BY policy, track, selected_as), 4) AS share,
    round(avg(reward), 4) AS mean_reward,
    round(avg(quantile), 4) AS mean_quantile,
    round(avg(completion_tokens), 4) AS mean_tokens
FROM qrpo_samples
GROUP BY policy, track, model, variant, selected_as
ORDER BY policy, track, selected_as, samples DESC, model, variant
