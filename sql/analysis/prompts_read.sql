-- What is read of each prompt source: its collections and languages, in which form rows were read, and
-- how many are malformed, by reason?
-- Page: source_prompts
SELECT
    dataset,
    source,
    language,
    read_as,
    malformed_reason,
    count(*) AS rows_read,
    round(count(*) / sum(count(*)) OVER (PARTITION BY dataset), 4) AS share_of_dataset
FROM source_prompts
GROUP BY dataset, source, language, read_as, malformed_reason
ORDER BY dataset, rows_read DESC, source NULLS LAST, language, read_as, malformed_reason NULLS FIRST
