-- The candidates that a strategy has just drawn, once each: all are looked up in one pass, for both sides.
SELECT prompt, candidate, text
FROM candidates
SEMI JOIN (SELECT chosen AS candidate FROM drawn UNION ALL SELECT rejected FROM drawn) AS named USING (candidate)
