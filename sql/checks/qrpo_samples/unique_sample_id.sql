-- Each sample_id stands once.
SELECT sample_id, count(*) AS times
FROM qrpo_samples
GROUP BY sample_id
HAVING count(*) > 1
