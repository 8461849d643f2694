-- Whose answers does the judge put first? The judge's ranking of the controversial prompts, by model and variant;
-- place 1 is the best.
-- Page: judge_rankings as bars: model, placed_first, variant
SELECT
    policy,
    model,
    variant,
    count(*) AS ranked,
    round(avg(position), 4) AS mean_position,
    count(*) FILTER (position = 1) AS placed_first,
    round(count(*) FILTER (position = 1) / count(*), 4) AS first_share
FROM judge_rankings
JOIN (SELECT completion_id, model, variant FROM rewards WHERE track = 'controversial') USING (completion_id)
GROUP BY policy, model, variant
ORDER BY policy, first_share DESC, model, variant
