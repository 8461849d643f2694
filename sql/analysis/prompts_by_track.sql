-- How many prompts are on each track, and which sources do they come from? A prompt that comes in
-- several sources counts under the first of them.
-- Page: alignment_prompts as bars: track, prompts, dataset
SELECT
    track,
    dataset,
    count(*) AS prompts,
    round(count(*) / sum(count(*)) OVER (PARTITION BY track), 4) AS share_of_track,
    (sum(count(*)) OVER (PARTITION BY track))::BIGINT AS prompts_of_track,
    count(*) FILTER (len(datasets) > 1) AS in_several_sources
FROM alignment_prompts
GROUP BY track, dataset
ORDER BY track, dataset
