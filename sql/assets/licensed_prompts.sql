-- What the rules of prompt_exclusions leave of the prompt sources, in the recipe's order.
WITH sources AS (
    SELECT
        unnest($prompts).name AS dataset,
        unnest($prompts).track AS track,
        generate_subscripts($prompts, 1)::INTEGER AS dataset_order
)
SELECT
    dataset, dataset_order, row_number, prompt_id, prompt_hash, track, messages, messages_hash,
    source, language, upstream_id, origin_url,
    source_prompts.origin_domain,
    consent_basis(
        status,
        decided_by_subset(
            subsets_of(source, upstream_id, map_keys($consent_subsets)::VARCHAR[]), $consent_subsets),
        coalesce($consent_sources[source], $consent_sources[dataset], $consent_unknown_origins)
    ) AS consent_basis
FROM source_prompts
JOIN sources USING (dataset)
LEFT JOIN origin_consent USING (origin_url)
ANTI JOIN prompt_exclusions USING (dataset, row_number)
ORDER BY dataset_order, row_number
