-- How many rows of each prompt source does each rule drop, and how many are left after it? Sources stand in
-- the recipe's order. Rules are tried in this order, and a row falls to the first; example is one of the
-- details that it saw.
WITH listed AS (
    SELECT unnest($prompts).name AS dataset, generate_subscripts($prompts, 1) AS dataset_order
),
sources AS (
    SELECT dataset, dataset_order, count(row_number) AS rows_read
    FROM listed
    LEFT JOIN source_prompts USING (dataset)
    GROUP BY dataset, dataset_order
),
dropped AS (
    SELECT
        dataset,
        dataset_order,
        rows_read,
        rule,
        list_position(
            ['malformed', 'licence', 'consent', 'keep', 'too_long', 'repeat', 'limit'],
            rule) AS place,
        count(rule) AS dropped,
        min(detail) AS example
    FROM sources
    LEFT JOIN prompt_exclusions USING (dataset)
    GROUP BY dataset, dataset_order, rows_read, rule
)
SELECT
    dataset,
    rule,
    dropped,
    round(dropped / nullif(rows_read, 0), 4) AS share_of_rows,
    (rows_read - sum(dropped) OVER (PARTITION BY dataset ORDER BY place, rule))::BIGINT
        AS rows_left,
    example
FROM dropped
ORDER BY dataset_order, place, rule
