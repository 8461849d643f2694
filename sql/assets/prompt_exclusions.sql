-- The first rule that drops a row of the prompt sources: malformed, licence, consent,
-- conversation_type, too_long, repeat, limit. Rules of the report: section 4.1.4 and Appendix B.
WITH sources AS (
    SELECT 'preference_mix' AS dataset, 0 AS dataset_order, *, NULL::VARCHAR AS conversation_type
    FROM preference_mix
    UNION ALL BY NAME
    SELECT 'polyglot_toxicity_prompts' AS dataset, 1 AS dataset_order, * FROM polyglot_toxicity_prompts
    UNION ALL BY NAME
    SELECT 'prism_prompts' AS dataset, 2 AS dataset_order, * FROM prism_prompts
),
measured AS (
    SELECT
        sources.*,
        origin_consent.status AS consent_status,
        origin_consent.blocked_agents,
        coalesce(list_sum(list_transform(messages, lambda message: length(message.content))), 0)
            AS characters,
        -- A sub-collection is a part of the id or source between characters that are no letter or digit.
        list_filter($licence_excluded_subsets, lambda subset: regexp_matches(
            ' ' || lower(coalesce(upstream_id, '')) || ' ' || lower(coalesce(sources.source, '')) || ' ',
            '[^a-z0-9]' || regexp_escape(lower(subset)) || '[^a-z0-9]')) AS subsets
    FROM sources
    LEFT JOIN origin_consent USING (origin_url)
),
ruled AS (
    SELECT
        *,
        CASE
            WHEN malformed_reason IS NOT NULL THEN ['malformed', malformed_reason]
            WHEN dataset = 'preference_mix' AND len(subsets) > 0
                THEN ['licence', 'subset ' || array_to_string(subsets, ', ')]
            WHEN consent_status = 'blocked'
                THEN ['consent', origin_domain || ' blocks ' || array_to_string(blocked_agents, ', ')]
            WHEN dataset = 'preference_mix' AND consent_status IS DISTINCT FROM 'admitted'
                AND coalesce($consent_sources[source], $consent_unknown_origins) = 'refused'
                THEN ['consent', 'no origin known, and the recipe refuses the source '
                    || coalesce(source, 'NULL')]
            WHEN dataset = 'prism_prompts'
                AND NOT list_contains($prism_conversation_types, coalesce(conversation_type, ''))
                THEN ['conversation_type', coalesce(conversation_type, 'NULL')]
            WHEN characters > $max_prompt_characters
                THEN ['too_long', characters::VARCHAR || ' of ' || $max_prompt_characters::VARCHAR
                    || ' characters']
        END AS verdict
    FROM measured
),
repeated AS (
    SELECT
        *,
        first_value(row_number) OVER (PARTITION BY dataset, prompt_id ORDER BY row_number) AS first_row
    FROM ruled
    WHERE verdict IS NULL
),
ranked AS (
    SELECT *, dense_rank() OVER (ORDER BY draw($seed, 'limit', prompt_id), prompt_id) AS place
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
