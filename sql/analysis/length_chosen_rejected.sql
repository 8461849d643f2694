-- Are chosen answers longer than rejected ones? A trainer learns length wherever they are.
-- Page: dpo_pairs
SELECT
    policy,
    track,
    count(*) AS pairs,
    round(avg(chosen_tokens), 4) AS mean_chosen_tokens,
    round(avg(rejected_tokens), 4) AS mean_rejected_tokens,
    round(median(chosen_tokens - rejected_tokens), 4) AS median_difference,
    round(count(*) FILTER (chosen_tokens > rejected_tokens) / count(*), 4) AS chosen_longer_share,
    round(count(*) FILTER (chosen_tokens < rejected_tokens) / count(*), 4) AS rejected_longer_share
FROM dpo_pairs
GROUP BY policy, track
ORDER BY policy, track
