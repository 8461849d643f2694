-- Which rules about sources and sub-collections does no row of the prompt sources meet? They decide nothing: look at
-- the spelling.
WITH rules AS (
    SELECT 'consent.sources' AS rule, unnest(map_keys($consent_sources)) AS about
    UNION ALL
    SELECT 'licence.excluded_sources', unnest($licence_excluded_sources)
    UNION ALL
    SELECT 'consent.subsets', unnest(map_keys($consent_subsets))
    UNION ALL
    SELECT 'licence.excluded_subsets', unnest($licence_excluded_subsets)
),
sources AS (
    SELECT DISTINCT unnest([dataset, source]) AS about
    FROM source_prompts
),
subsets AS (
    SELECT DISTINCT unnest(subsets_of(
        source, upstream_id, list_concat(map_keys($consent_subsets), $licence_excluded_subsets))) AS about
    FROM source_prompts
)
SELECT rule, about
FROM rules
WHERE rule IN ('consent.sources', 'licence.excluded_sources') AND about NOT IN (FROM sources WHERE about IS NOT NULL)
    OR rule IN ('consent.subsets', 'licence.excluded_subsets') AND about NOT IN (FROM subsets)
ORDER BY rule, about
