-- How many pairs rest on the bands that the report names, and how many on the next one because
-- those were empty? Intended are chosen from above_all or best, and rejected from worst.
-- Page: dpo_pairs
SELECT
    policy,
    track,
    chosen_band,
    rejected_band,
    chosen_band IN ('above_all', 'best') AND rejected_band = 'worst' AS as_intended,
    count(*) AS pairs,
    round(count(*) / sum(count(*)) OVER (PARTITION BY policy, track), 4) AS share_of_track,
    round(avg(chosen_reward - rejected_reward), 4) AS mean_reward_difference
FROM dpo_pairs
GROUP BY policy, track, chosen_band, rejected_band
ORDER BY policy, track, pairs DESC, chosen_band, rejected_band
