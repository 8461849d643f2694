-- On which labelled prompts do the grader and the majority of people differ, at the recipe's
-- threshold? The farthest apart come first.
-- A person counts once a prompt, by the last label; a label without a name is a person's of its own.
WITH counted AS (
    SELECT *
    FROM human_labels
    WHERE malformed_reason IS NULL
    QUALIFY annotator IS NULL
        OR row_number = max(row_number) OVER (PARTITION BY prompt_id, annotator)
),
labelled AS (
    SELECT
        prompt_id,
        list_sort(list(label)) AS labels,
        count(*) FILTER (label >= $controversy_threshold) AS controversial,
        count(*) FILTER (label < $controversy_threshold) AS not_controversial
    FROM counted
    GROUP BY prompt_id
)
SELECT
    prompt_id,
    grade,
    labels,
    round(abs(grade - list_avg(labels)), 4) AS distance,
    messages[-1].content AS prompt,
    reasoning
FROM labelled
JOIN controversy_labels USING (prompt_id)
JOIN (
    SELECT prompt_id, arg_min(messages, dataset_order) AS messages
    FROM licensed_prompts
    WHERE track = 'graded'
    GROUP BY prompt_id
) USING (prompt_id)
WHERE controversial <> not_controversial
    AND is_controversial <> (controversial > not_controversial)
ORDER BY distance DESC, prompt_id
