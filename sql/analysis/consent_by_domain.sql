-- Which websites do rows of the prompt sources come from, what do these say to AI crawlers, and how many
-- rows are licensed? Rows without a known origin follow the rule of their source.
SELECT
    source_prompts.origin_domain,
    coalesce(status, 'no origin') AS status,
    blocked_agents,
    count(DISTINCT origin_url) AS pages,
    count(*) AS rows_read,
    count(licensed) AS licensed
FROM source_prompts
JOIN (SELECT unnest($prompts).name AS dataset) USING (dataset)
LEFT JOIN origin_consent USING (origin_url)
LEFT JOIN (SELECT dataset, row_number, 1 AS licensed FROM licensed_prompts) USING (dataset, row_number)
GROUP BY source_prompts.origin_domain, status, blocked_agents
ORDER BY source_prompts.origin_domain NULLS LAST, status, blocked_agents
