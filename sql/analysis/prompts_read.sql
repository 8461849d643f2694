-- What is read of each prompt source: its collections, in which form their rows were read, and how many are
-- malformed, by reason?
-- Page: source_prompts
SELECT
    dataset,
    source,
    read_as,
    malformed_reason,
    count(*) AS rows_read,
    round(count(*) / sum(count(*)) OVER (PARTITION BY dataset), 4) AS share_of_dataset
FROM source_prompts
GROUP BY dataset, source, read_as, malformed_reason
ORDER BY dataset, rows_read DESC, source NULLS LAST, read_as, malformed_reason NULLS FIRST
