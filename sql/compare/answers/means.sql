-- Means over all pairs of A and of B: the margin of rewards, and lengths in tokens.
WITH sides AS (
    SELECT 'A' AS side, * FROM pairs_a
    UNION ALL
    SELECT 'B', * FROM pairs_b
),
measured AS (
    SELECT
        policy,
        track,
        avg(chosen_reward - rejected_reward) FILTER (side = 'A') AS margin_a,
        avg(chosen_reward - rejected_reward) FILTER (side = 'B') AS margin_b,
        avg(chosen_tokens) FILTER (side = 'A') AS chosen_a,
        avg(chosen_tokens) FILTER (side = 'B') AS chosen_b,
        avg(rejected_tokens) FILTER (side = 'A') AS rejected_a,
        avg(rejected_tokens) FILTER (side = 'B') AS rejected_b
    FROM sides
    GROUP BY policy, track
),
listed AS (
    SELECT policy, track, 1 AS place, 'reward_margin' AS figure, margin_a AS a, margin_b AS b FROM measured
    UNION ALL
    SELECT policy, track, 2, 'chosen_tokens', chosen_a, chosen_b FROM measured
    UNION ALL
    SELECT policy, track, 3, 'rejected_tokens', rejected_a, rejected_b FROM measured
)
SELECT
    policy,
    track,
    figure,
    round(a, 4) AS mean_a,
    round(b, 4) AS mean_b,
    round(b - a, 4) AS difference
FROM listed
ORDER BY policy, track, place
