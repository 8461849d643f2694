-- The first rule that drops a row of the prompt sources: malformed, licence, consent, keep, too_long,
-- repeat, limit. Rules of the report: section 4.1.4 and Appendix B.
WITH sources AS (
    SELECT unnest($prompts).name AS dataset, unnest($prompts).keep AS keep
),
measured AS (
    SELECT
        source_prompts.*,
        origin_consent.status AS consent_status,
        coalesce(reason, 'no origin known') AS origin_says,
        coalesce(list_sum(list_transform(messages, lambda message: length(message.content))), 0)
            AS characters,
        subsets_of(source, upstream_id, $licence_excluded_subsets) AS subsets,
        list_filter([source, dataset], lambda name: list_contains($licence_excluded_sources::VARCHAR[], name))
            AS excluded_sources,
        subsets_of(source, upstream_id, map_keys($consent_subsets)::VARCHAR[]) AS ruled_subsets,
        -- A source has a rule under its own name or, for all of a dataset, under the recipe's name for that.
        CASE WHEN $consent_sources[source] IS NOT NULL THEN source ELSE dataset END AS ruled_source,
        list_transform(map_entries(keep), lambda kept: {
            'name': kept.key,
            'value': CASE kept.key
                WHEN 'source' THEN source
                WHEN 'upstream_id' THEN upstream_id
                WHEN 'origin_url' THEN source_prompts.origin_url
                WHEN 'language' THEN language
                ELSE extra ->> kept.key
            END,
            'allowed': kept.value
        }) AS kept_columns
    FROM source_prompts
    JOIN sources USING (dataset)
    LEFT JOIN origin_consent USING (origin_url)
),
decided AS (
    SELECT
        *,
        decided_by_subset(ruled_subsets, $consent_subsets) AS of_subset,
        coalesce($consent_sources[ruled_source], $consent_unknown_origins) AS of_source,
        list_filter(ruled_subsets, lambda subset: $consent_subsets[subset] = 'refused')[1] AS refused_subset,
        -- What somebody saw who refused.
        coalesce(' (' || CASE
            WHEN of_subset IS NOT NULL THEN $consent_subsets_evidence[refused_subset]
            ELSE $consent_sources_evidence[ruled_source]
        END || ')', '') AS evidence
    FROM measured
),
ruled AS (
    SELECT
        *,
        -- A value that is not known is none of those allowed.
        list_filter(kept_columns, lambda kept: NOT coalesce(list_contains(kept.allowed, kept.value), false))
            AS unwanted,
        CASE
            WHEN malformed_reason IS NOT NULL THEN ['malformed', concat_ws(': ', malformed_reason, malformed_detail)]
            WHEN len(excluded_sources) > 0 THEN ['licence', 'source ' || excluded_sources[1]]
            WHEN len(subsets) > 0 THEN ['licence', 'subset ' || array_to_string(subsets, ', ')]
            WHEN refuses(consent_status) THEN ['consent', origin_says]
            WHEN (consent_status IS DISTINCT FROM 'admitted')
                AND (coalesce(of_subset, of_source) IS DISTINCT FROM 'admitted')
                THEN ['consent', origin_says || ', and the recipe ' || CASE
                    WHEN of_subset IS NOT NULL THEN 'refuses the subset ' || refused_subset || evidence
                    WHEN $consent_sources[ruled_source] IS NOT NULL
                        THEN 'refuses the source ' || ruled_source || evidence
                    WHEN of_source IS NOT NULL THEN 'refuses unknown origins'
                    ELSE 'names no rule for the source ' || coalesce(source, 'NULL')
                END]
            WHEN len(unwanted) > 0
                THEN ['keep', unwanted[1].name || ' is ' || coalesce(unwanted[1].value, 'NULL')]
            WHEN characters > $max_prompt_characters
                THEN ['too_long', characters::VARCHAR || ' of ' || $max_prompt_characters::VARCHAR
                    || ' characters']
        END AS verdict
    FROM decided
),
repeated AS (
    SELECT
        *,
        first_value(row_number) OVER (PARTITION BY dataset, prompt_id ORDER BY row_number) AS first_row
    FROM ruled
    WHERE verdict IS NULL
),
ranked AS (
    SELECT *, dense_rank() OVER (ORDER BY sample_key($seed, 'limit', prompt_hash), prompt_id) AS place
    FROM repeated
    WHERE row_number = first_row
)
SELECT dataset, row_number, prompt_id, source, upstream_id, verdict[1] AS rule, verdict[2] AS detail
FROM ruled
WHERE verdict IS NOT NULL
UNION ALL BY NAME
SELECT
    dataset, row_number, prompt_id, source, upstream_id,
    'repeat' AS rule, 'row ' || first_row::VARCHAR || ' asks the same' AS detail
FROM repeated
WHERE row_number <> first_row
UNION ALL BY NAME
SELECT
    dataset, row_number, prompt_id, source, upstream_id,
    'limit' AS rule, 'not among the first ' || $limit::VARCHAR || ' by hash' AS detail
FROM ranked
WHERE place > coalesce($limit, 9223372036854775807)
ORDER BY dataset, row_number
