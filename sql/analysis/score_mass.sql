-- How much probability does the judge put on the labels together? Little of it means that it would
-- rather have said something else, and that a rating rests on what is left.
-- Page: rewards
SELECT
    scorer,
    track,
    model,
    count(*) AS rated,
    round(avg(score_mass), 4) AS mean_mass,
    round(min(score_mass), 4) AS least_mass,
    round(quantile_cont(score_mass, 0.1), 4) AS lower_decile,
    round(median(score_mass), 4) AS median_mass,
    round(count(*) FILTER (score_mass < 0.5) / count(*), 4) AS below_half_share
FROM rewards
WHERE score_mass IS NOT NULL
GROUP BY scorer, track, model
ORDER BY scorer, track, model
