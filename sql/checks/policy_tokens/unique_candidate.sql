-- A policy's candidate is counted once.
SELECT policy, completion_id, count(*) AS times
FROM policy_tokens
GROUP BY ALL HAVING count(*) > 1
