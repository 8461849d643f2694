-- A prompt is excluded once for a policy, and has no pair there.
SELECT policy, prompt_id, count(*) AS times
FROM selection_exclusions
GROUP BY ALL
HAVING count(*) > 1
UNION ALL
SELECT policy, prompt_id, 0
FROM selection_exclusions
SEMI JOIN selected_pairs USING (policy, prompt_id)
