-- How many prompts give a policy no pair, and why? One row without a reason where all give one.
-- Page: selection_exclusions
WITH prompts AS (
    SELECT policy, track, count(DISTINCT prompt_id) AS prompts
    FROM quantile_rewards
    GROUP BY policy, track
)
SELECT
    policy,
    track,
    prompts,
    reason,
    count(prompt_id) AS excluded,
    round(count(prompt_id) / prompts, 4) AS share_of_prompts,
    round(avg(n_references), 4) AS mean_references,
    round(avg(n_candidates), 4) AS mean_candidates,
    round(avg(n_eligible), 4) AS mean_eligible
FROM prompts
LEFT JOIN selection_exclusions USING (policy, track)
GROUP BY policy, track, prompts, reason
ORDER BY policy, track, excluded DESC, reason
