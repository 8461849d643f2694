-- How many rows of each prompt source are left after each rule? The first step is what was read; rules are tried in
-- this order, and a row falls to the first.
-- Page: prompt_exclusions, licensed_prompts as bars: step, rows_left, dataset
WITH sources AS (
    SELECT unnest($prompts).name AS dataset, generate_subscripts($prompts, 1) AS dataset_order
),
steps AS (
    SELECT
        unnest(['read', 'malformed', 'licence', 'consent', 'keep', 'too_long', 'repeat', 'limit']) AS step,
        unnest(range(8)) AS step_order
),
counted AS (
    SELECT dataset, 'read' AS step, count(*) AS changed
    FROM source_prompts
    GROUP BY dataset
    UNION ALL
    SELECT dataset, rule, -count(*)
    FROM prompt_exclusions
    GROUP BY dataset, rule
)
SELECT
    dataset,
    step,
    coalesce(greatest(-changed, 0), 0)::BIGINT AS dropped,
    (sum(coalesce(changed, 0)) OVER (PARTITION BY dataset ORDER BY step_order))::BIGINT AS rows_left
FROM sources
CROSS JOIN steps
LEFT JOIN counted USING (dataset, step)
ORDER BY dataset_order, step_order
