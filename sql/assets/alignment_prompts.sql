-- The prompts of all sources on their tracks (report, section 4.1.4): graded ones by their grade, the
-- others on the track that the recipe gives their source. A prompt keeps one row, of the first source that
-- has it; one that comes on both tracks is controversial.
WITH candidates AS (
    SELECT
        licensed_prompts.*,
        CASE track WHEN 'graded' THEN is_controversial ELSE track = 'controversial' END AS controversial
    FROM licensed_prompts
    LEFT JOIN controversy_labels USING (prompt_id)
    WHERE controversial IS NOT NULL
),
merged AS (
    SELECT
        prompt_id,
        bool_or(controversial) AS controversial,
        list(dataset ORDER BY dataset_order) AS datasets,
        min(dataset_order) AS dataset_order
    FROM candidates
    GROUP BY prompt_id
)
SELECT
    prompt_id,
    prompt_hash,
    CASE WHEN merged.controversial THEN 'controversial' ELSE 'standard' END AS track,
    messages,
    messages_hash,
    dataset,
    datasets,
    source,
    language,
    upstream_id
FROM candidates
JOIN merged USING (prompt_id, dataset_order)
ORDER BY prompt_id
