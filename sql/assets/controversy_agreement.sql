-- The report's validation (section 4.1.4): grades 0..3 folded to 0/1 at every threshold, against the
-- people's majority, and the people among themselves. A prompt on which they split evenly has no
-- majority, so it stands apart from accuracy. People's own agreement is over prompts with two labels. A person
-- counts once a prompt: of several labels the last. A label without an annotator is a person's of its own.
WITH thresholds AS (
    SELECT unnest([1, 2, 3])::TINYINT AS threshold
),
labels AS (
    SELECT
        *,
        annotator IS NOT NULL
            AND row_number < max(row_number) OVER (PARTITION BY prompt_id, annotator) AS is_repeated
    FROM human_labels
    WHERE malformed_reason IS NULL
),
folded AS (
    SELECT
        threshold,
        prompt_id,
        count(*) AS people,
        count(*) FILTER (label >= threshold) AS positive
    FROM labels, thresholds
    WHERE NOT is_repeated
    GROUP BY ALL
),
compared AS (
    SELECT
        folded.*,
        CASE WHEN 2 * positive = people THEN NULL ELSE 2 * positive > people END AS majority,
        grade >= threshold AS graded,
        greatest(positive, people - positive) AS with_majority
    FROM folded
    LEFT JOIN controversy_labels USING (prompt_id)
),
counted AS (
    SELECT
        threshold,
        count(prompt_id) AS labelled_prompts,
        count(prompt_id) FILTER (prompt_id NOT IN (SELECT prompt_id FROM controversy_labels)) AS unmatched_prompts,
        any_value((SELECT count(*) FROM labels WHERE is_repeated)) AS repeated_labels,
        count(*) FILTER (majority IS NOT NULL AND graded IS NOT NULL) AS graded_prompts,
        count(*) FILTER (prompt_id IS NOT NULL AND majority IS NULL) AS tied_prompts,
        count(*) FILTER (majority AND graded) AS true_positives,
        count(*) FILTER (NOT majority AND graded) AS false_positives,
        count(*) FILTER (NOT majority AND NOT graded) AS true_negatives,
        count(*) FILTER (majority AND NOT graded) AS false_negatives,
        avg((with_majority = people)::INTEGER) FILTER (people > 1) AS human_unanimous,
        avg((with_majority * (with_majority - 1) + (people - with_majority) * (people - with_majority - 1))
            / (people * (people - 1))) FILTER (people > 1) AS human_pairwise,
        avg(with_majority / people) FILTER (people > 1) AS human_majority
    FROM thresholds
    LEFT JOIN compared USING (threshold)
    GROUP BY threshold
)
SELECT
    * REPLACE (
        -- The last digits of a mean depend on the order of rows; these do not.
        round(human_unanimous, 12) AS human_unanimous,
        round(human_pairwise, 12) AS human_pairwise,
        round(human_majority, 12) AS human_majority),
    threshold = $controversy_threshold AS is_recipe_threshold,
    (true_positives + true_negatives) / nullif(graded_prompts, 0) AS accuracy
FROM counted
ORDER BY threshold
