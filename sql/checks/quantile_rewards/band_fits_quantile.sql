-- Bands follow from quantiles: 1 for above_all and best, below 1 for the others (with two references or more).
SELECT policy, completion_id, quantile, band
FROM quantile_rewards
WHERE band NOT IN ('above_all', 'best', 'middle', 'worst')
    OR (band IS NULL) <> (quantile IS NULL)
    OR (band IN ('above_all', 'best')) <> (quantile = 1)
    OR quantile NOT BETWEEN 0 AND 1
