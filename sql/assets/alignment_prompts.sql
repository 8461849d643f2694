-- The union of both tracks (report, section 4.1.4): graded prompts of the mix by their grade, the
-- additions as controversial. A prompt keeps one row; one that comes on both tracks is controversial.
WITH additions AS (
    SELECT 'polyglot_toxicity_prompts' AS dataset, 1 AS dataset_order, row_number, prompt_id, messages,
        messages_hash, source, upstream_id
    FROM polyglot_toxicity_prompts
    UNION ALL BY NAME
    SELECT 'prism_prompts' AS dataset, 2 AS dataset_order, row_number, prompt_id, messages,
        messages_hash, source, upstream_id
    FROM prism_prompts
),
candidates AS (
    SELECT
        'preference_mix' AS dataset, 0 AS dataset_order, row_number, prompt_id, messages, messages_hash,
        source, upstream_id, is_controversial
    FROM licensed_prompts
    JOIN controversy_labels USING (prompt_id)
    WHERE is_controversial IS NOT NULL
    UNION ALL BY NAME
    SELECT *, true AS is_controversial
    FROM additions
    WHERE (dataset, row_number) NOT IN (SELECT (dataset, row_number) FROM prompt_exclusions)
),
merged AS (
    SELECT
        *,
        bool_or(is_controversial) OVER prompt AS controversial,
        list(dataset) OVER (
            PARTITION BY prompt_id ORDER BY dataset_order, row_number
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS datasets,
        row_number() OVER (PARTITION BY prompt_id ORDER BY dataset_order, row_number) AS place
    FROM candidates
    WINDOW prompt AS (PARTITION BY prompt_id)
)
SELECT
    prompt_id,
    CASE WHEN controversial THEN 'controversial' ELSE 'standard' END AS track,
    messages,
    messages_hash,
    dataset,
    datasets,
    source,
    upstream_id
FROM merged
WHERE place = 1
ORDER BY prompt_id
