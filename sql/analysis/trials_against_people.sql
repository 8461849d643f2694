-- On which labelled prompts does a candidate for the grader differ from the majority of people, at the recipe's
-- threshold? The farthest apart come first.
-- Page: grader_trials as texts
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
        arg_min(messages, row_number) AS messages,
        list_sort(list(label)) AS labels,
        count(*) FILTER (label >= $controversy_threshold) AS controversial,
        count(*) FILTER (label < $controversy_threshold) AS not_controversial
    FROM counted
    GROUP BY prompt_id
),
-- What labels name by an id alone.
read AS (
    SELECT prompt_id, first(messages ORDER BY dataset, row_number) AS found
    FROM source_prompts
    SEMI JOIN labelled USING (prompt_id)
    WHERE list_contains(list_transform($prompts, lambda source: source.name), dataset)
    GROUP BY prompt_id
)
SELECT
    request_id AS row_id,
    prompt_id,
    candidate,
    grade,
    labels,
    round(abs(grade - list_avg(labels)), 4) AS distance,
    coalesce(messages, found)[-1].content AS prompt,
    reasoning
FROM grader_trials
JOIN labelled USING (prompt_id)
LEFT JOIN read USING (prompt_id)
WHERE controversial <> not_controversial
    AND (grade >= $controversy_threshold) <> (controversial > not_controversial)
ORDER BY distance DESC, candidate, prompt_id
LIMIT 10
