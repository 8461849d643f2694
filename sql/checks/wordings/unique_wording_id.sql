-- Each wording_id stands once.
SELECT wording_id, count(*) AS times
FROM wordings
GROUP BY wording_id
HAVING count(*) > 1
