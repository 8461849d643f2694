-- A candidate stands once for a policy.
SELECT policy, completion_id, count(*) AS times
FROM judge_rankings
GROUP BY ALL
HAVING count(*) > 1
