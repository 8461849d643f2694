-- How many rows of each prompt source does each rule drop, and how many are left after it? Rules
-- are tried in this order, and a row falls to the first; example is one of the details that it saw.
WITH sources AS (
    SELECT 'preference_mix' AS dataset, count(*) AS rows_read FROM preference_mix
    UNION ALL
    SELECT 'polyglot_toxicity_prompts', count(*) FROM polyglot_toxicity_prompts
    UNION ALL
    SELECT 'prism_prompts', count(*) FROM prism_prompts
),
dropped AS (
    SELECT
        dataset,
        rows_read,
        rule,
        list_position(
            ['malformed', 'licence', 'consent', 'conversation_type', 'too_long', 'repeat', 'limit'],
            rule) AS place,
        count(rule) AS dropped,
        min(detail) AS example
    FROM sources
    LEFT JOIN prompt_exclusions USING (dataset)
    GROUP BY dataset, rows_read, rule
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
ORDER BY dataset, place, rule
