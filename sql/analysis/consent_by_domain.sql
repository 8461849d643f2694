-- Which websites do rows of the prompt sources come from, what do these say to AI crawlers, and how many
-- rows are licensed? Rows of a status that neither refuses nor admits follow the rule of their sub-collection
-- or source. site is the one whose robots.txt counts, or the domain on a list; domain is NULL for rows without
-- an origin, and for those whose origin cannot be read.
SELECT
    source_prompts.origin_domain,
    coalesce(status, 'no origin') AS status,
    site,
    blocked_agents,
    count(DISTINCT origin_url) AS pages,
    count(*) AS rows_read,
    count(licensed) AS licensed
FROM source_prompts
JOIN (SELECT unnest($prompts).name AS dataset) USING (dataset)
LEFT JOIN origin_consent USING (origin_url)
LEFT JOIN (SELECT dataset, row_number, 1 AS licensed FROM licensed_prompts) USING (dataset, row_number)
GROUP BY source_prompts.origin_domain, status, site, blocked_agents
ORDER BY source_prompts.origin_domain NULLS LAST, status, site, blocked_agents
