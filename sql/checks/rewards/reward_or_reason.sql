-- A completion has a finite reward, or the reason why not.
SELECT completion_id, reward, missing_reason
FROM rewards
WHERE (reward IS NULL) <> (missing_reason IS NOT NULL) OR NOT isfinite(reward)
