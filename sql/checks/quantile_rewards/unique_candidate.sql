-- A candidate stands once for a policy.
SELECT policy, completion_id, count(*) AS times
FROM quantile_rewards
GROUP BY ALL
HAVING count(*) > 1
