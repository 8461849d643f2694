-- Every prompt is admitted by its origin's robots.txt, or by a rule of the recipe that says so.
SELECT dataset, row_number, source, consent_basis
FROM licensed_prompts
LEFT JOIN origin_consent USING (origin_url)
WHERE CASE consent_basis
        WHEN 'robots_txt' THEN status IS DISTINCT FROM 'admitted'
        WHEN 'subset_rule' THEN decided_by_subset(
            subsets_of(source, upstream_id, map_keys($consent_subsets)::VARCHAR[]), $consent_subsets)
            IS DISTINCT FROM 'admitted'
        WHEN 'source_rule' THEN
            coalesce($consent_sources[source], $consent_sources[dataset], $consent_unknown_origins)
            IS DISTINCT FROM 'admitted'
        ELSE true
    END
