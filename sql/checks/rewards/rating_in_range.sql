-- A judge's rating is between 1 and 9, and the mass on the numbers a probability.
SELECT completion_id, reward, score_mass
FROM rewards
WHERE task = 'rate' AND (reward NOT BETWEEN 1 AND 9 OR score_mass NOT BETWEEN 0 AND 1.001)
