-- Which websites do rows of the preference mix come from, what do these say to AI crawlers, and how
-- many rows are licensed? Rows without a known origin follow the rule of their source.
SELECT
    preference_mix.origin_domain,
    coalesce(status, 'no origin') AS status,
    blocked_agents,
    count(DISTINCT origin_url) AS pages,
    count(*) AS rows_read,
    count(licensed_prompts.row_number) AS licensed
FROM preference_mix
LEFT JOIN origin_consent USING (origin_url)
LEFT JOIN licensed_prompts USING (row_number)
GROUP BY preference_mix.origin_domain, status, blocked_agents
ORDER BY preference_mix.origin_domain NULLS LAST, status, blocked_agents
