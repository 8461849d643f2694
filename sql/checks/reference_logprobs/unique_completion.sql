-- A policy is asked about a completion once.
SELECT policy, completion_id, count(*) AS times
FROM reference_logprobs
GROUP BY ALL HAVING count(*) > 1
