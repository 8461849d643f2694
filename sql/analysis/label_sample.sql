-- Which prompts that are to be graded are given to people to label? So many as $labels says, of each $stratum (source,
-- dataset or language) by its share, drawn by the recipe's seed. A larger sample has all of a smaller one.
WITH graded AS (
    SELECT
        prompt_id,
        prompt_hash,
        messages,
        dataset,
        source,
        language,
        coalesce(
            CASE $stratum WHEN 'source' THEN source WHEN 'language' THEN language END,
            dataset) AS stratum
    FROM licensed_prompts
    -- A prompt of several graded sources is one, as the first has it.
    JOIN (
        SELECT prompt_id, min(dataset_order) AS dataset_order
        FROM licensed_prompts
        WHERE track = 'graded'
        GROUP BY prompt_id
    ) AS first_of_it USING (prompt_id, dataset_order)
),
placed AS (
    SELECT
        *,
        sample_key($seed, 'labels', prompt_hash) AS draw,
        (row_number() OVER (PARTITION BY stratum ORDER BY draw) - 0.5) / count(*) OVER (PARTITION BY stratum) AS place
    FROM graded
)
SELECT prompt_id, stratum, dataset, source, language, messages
FROM placed
ORDER BY place, draw
LIMIT $labels
