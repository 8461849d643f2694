-- Each threshold stands once for a candidate.
SELECT candidate, threshold, count(*) AS times
FROM grader_agreement
GROUP BY candidate, threshold
HAVING count(*) > 1
