-- Each measure stands once for a scorer and what it is about.
SELECT scorer, measure, about, count(*) AS times
FROM judge_calibration
GROUP BY ALL
HAVING count(*) > 1
