-- Each pair_id stands once.
SELECT pair_id, count(*) AS times
FROM dpo_pairs
GROUP BY pair_id
HAVING count(*) > 1
