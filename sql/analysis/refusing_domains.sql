-- Which ten websites cost most rows by their robots.txt, or by a list of domains, and what do they say?
-- Page: prompt_exclusions, licensed_prompts
SELECT
    source_prompts.origin_domain,
    status,
    site,
    count(*) AS rows_refused,
    round(count(*) / sum(count(*)) OVER (), 4) AS share_of_refused
FROM prompt_exclusions
JOIN source_prompts USING (dataset, row_number)
JOIN origin_consent USING (origin_url)
WHERE rule = 'consent'
GROUP BY source_prompts.origin_domain, status, site
ORDER BY rows_refused DESC, source_prompts.origin_domain, status, site
LIMIT 10
