-- How far apart are the rewards of a pair? Pairs of each track by the difference, in thirty steps up to a policy's
-- largest; margin is the lower end of a step.
-- Page: dpo_pairs as bars: margin, pairs, track
WITH margins AS (
    SELECT policy, track, chosen_reward - rejected_reward AS difference
    FROM dpo_pairs
),
ranges AS (
    SELECT policy, greatest(max(difference), 1e-9) / 30 AS width
    FROM margins
    GROUP BY policy
)
SELECT
    policy,
    track,
    round(width * least(floor(difference / width), 29), 3) AS margin,
    count(*) AS pairs
FROM margins
JOIN ranges USING (policy)
GROUP BY ALL
ORDER BY policy, track, margin
