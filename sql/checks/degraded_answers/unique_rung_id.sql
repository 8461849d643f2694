-- Each rung_id stands once for a scorer.
SELECT scorer, rung_id, count(*) AS times
FROM degraded_answers
GROUP BY scorer, rung_id
HAVING count(*) > 1
