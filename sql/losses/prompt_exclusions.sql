-- Rows of a source that one rule drops, of those that the rules before it leave (malformed ones are judged where
-- they are read). How many are taken (limit) and that none is taken twice (repeat) are choices: they are told.
WITH rules AS (
    SELECT unnest(['malformed', 'licence', 'consent', 'keep', 'too_long', 'repeat', 'limit']) AS rule,
        generate_subscripts(['malformed', 'licence', 'consent', 'keep', 'too_long', 'repeat', 'limit'], 1) AS place
),
dropped AS (
    SELECT
        dataset, rule, place,
        count(*) AS lost,
        'row ' || min(row_number) || ': ' || arg_min(detail, row_number) AS example
    FROM prompt_exclusions
    JOIN rules USING (rule)
    GROUP BY ALL
),
sized AS (
    SELECT dataset, count(*) AS of_all FROM source_prompts GROUP BY dataset
)
SELECT
    dataset AS part,
    NULL AS track,
    'excluded by ' || rule AS loss,
    CASE WHEN rule NOT IN ('malformed', 'repeat', 'limit') THEN 'excluded' END AS limit_name,
    rule AS reason,
    lost,
    (of_all - coalesce(sum(lost) OVER earlier, 0))::BIGINT AS of_rows,
    example
FROM dropped
JOIN sized USING (dataset)
WINDOW earlier AS (PARTITION BY dataset ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
