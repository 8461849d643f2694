-- Each ordered pair is compared once for a policy.
SELECT policy, first_completion_id, second_completion_id, count(*) AS times
FROM judge_comparisons
GROUP BY ALL
HAVING count(*) > 1
