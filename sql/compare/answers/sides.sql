-- What is compared: A and B, the recipe that each was made by, and how many pairs it has.
WITH counted AS (
    SELECT 'A' AS side, count(*) AS pairs FROM pairs_a
    UNION ALL
    SELECT 'B', count(*) FROM pairs_b
),
named AS (
    SELECT unnest($sides, recursive := true)
)
SELECT side, name, recipe, fingerprint AS recipe_fingerprint, pairs
FROM named
JOIN counted USING (side)
ORDER BY side
