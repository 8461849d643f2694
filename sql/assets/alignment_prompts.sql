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
        prompt_id,
        bool_or(is_controversial) AS controversial,
        list(dataset ORDER BY dataset_order, row_number) AS datasets,
        min({'dataset_order': dataset_order, 'row_number': row_number}) AS first_row
    FROM candidates
    GROUP BY prompt_id
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
FROM candidates
JOIN merged USING (prompt_id)
WHERE dataset_order = first_row.dataset_order AND row_number = first_row.row_number
ORDER BY prompt_id
