-- How many rows does robots.txt decide about, and how many a rule of the recipe? Of each prompt source, and of
-- each thing that decides, the rows that it admits and refuses. Rows that are malformed, or fall to their
-- licence, are not asked about.
-- Page: licensed_prompts
WITH sources AS (
    SELECT unnest($prompts).name AS dataset, generate_subscripts($prompts, 1) AS dataset_order
),
asked AS (
    SELECT
        dataset,
        dataset_order,
        coalesce(status, 'no origin') AS origin_status,
        consent_basis(
            status,
            decided_by_subset(
                subsets_of(source_prompts.source, source_prompts.upstream_id,
                    map_keys($consent_subsets)::VARCHAR[]),
                $consent_subsets),
            coalesce($consent_sources[source_prompts.source], $consent_sources[dataset], $consent_unknown_origins)
        ) AS decided_by,
        rule
    FROM source_prompts
    JOIN sources USING (dataset)
    LEFT JOIN origin_consent USING (origin_url)
    LEFT JOIN prompt_exclusions USING (dataset, row_number)
    WHERE rule IS NULL OR rule NOT IN ('malformed', 'licence')
)
SELECT
    dataset,
    decided_by,
    origin_status,
    count(*) AS rows_decided,
    count(*) FILTER (rule IS DISTINCT FROM 'consent') AS admitted,
    count(*) FILTER (rule = 'consent') AS refused
FROM asked
GROUP BY dataset, dataset_order, decided_by, origin_status
ORDER BY dataset_order, decided_by, origin_status
