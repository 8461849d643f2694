-- The report's validation (section 4.1.4) of each of $candidates, whose grades are `grades`: 0..3 folded to 0/1 at
-- every threshold, against the people's majority, and the people among themselves. A prompt on which they split evenly
-- has no majority, so it stands apart from accuracy. People's own agreement is over prompts with two labels. A person
-- counts once a prompt: of several labels the last. A label without an annotator is a person's of its own.
WITH thresholds AS (
    SELECT candidate, threshold
    FROM (SELECT unnest($candidates::VARCHAR[]) AS candidate), (SELECT unnest([1, 2, 3])::TINYINT AS threshold)
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
        candidate,
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
    LEFT JOIN grades USING (candidate, prompt_id)
),
counted AS (
    SELECT
        candidate,
        threshold,
        count(prompt_id) AS labelled_prompts,
        count(prompt_id) FILTER ((candidate, prompt_id) NOT IN (SELECT (candidate, prompt_id) FROM grades))
            AS unmatched_prompts,
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
    LEFT JOIN compared USING (candidate, threshold)
    GROUP BY candidate, threshold
),
-- Ratings of a prompt by value: the people's alone, and on graded prompts with the candidate as one more.
ratings AS (
    SELECT 'the people' AS raters, prompt_id, label AS value FROM labels WHERE NOT is_repeated
    UNION ALL
    SELECT candidate, prompt_id, label
    FROM labels
    JOIN grades USING (prompt_id)
    WHERE grade IS NOT NULL AND NOT is_repeated
    UNION ALL
    SELECT candidate, prompt_id, grade
    FROM grades
    SEMI JOIN labels USING (prompt_id)
    WHERE grade IS NOT NULL
),
tallied AS (
    SELECT *, sum(number) OVER (PARTITION BY raters, prompt_id) AS of_prompt
    FROM (SELECT raters, prompt_id, value, count(*) AS number FROM ratings GROUP BY ALL)
    QUALIFY of_prompt > 1
),
marginals AS (
    SELECT raters, value, sum(number) AS number, sum(sum(number)) OVER (PARTITION BY raters) AS of_all
    FROM tallied
    GROUP BY raters, value
),
-- How far apart two values are on an ordinal scale: the ratings between them, and half of those with either.
apart AS (
    SELECT
        one.raters,
        one.value AS value,
        other.value AS other_value,
        one.number * other.number AS expected,
        one.of_all - 1 AS of_others,
        power((
            SELECT sum(number)
            FROM marginals AS between_them
            WHERE between_them.raters = one.raters
                AND between_them.value BETWEEN least(one.value, other.value) AND greatest(one.value, other.value)
        ) - (one.number + other.number) / 2, 2) AS distance
    FROM marginals AS one
    JOIN marginals AS other ON other.raters = one.raters AND other.value <> one.value
),
observed AS (
    SELECT
        one.raters,
        one.value,
        other.value AS other_value,
        sum(one.number * other.number / (one.of_prompt - 1)) AS number
    FROM tallied AS one
    JOIN tallied AS other
        ON other.raters = one.raters AND other.prompt_id = one.prompt_id AND other.value <> one.value
    GROUP BY ALL
),
alphas AS (
    SELECT
        raters,
        1 - any_value(of_others) * coalesce(sum(observed.number * distance), 0) / sum(expected * distance) AS alpha
    FROM apart
    LEFT JOIN observed USING (raters, value, other_value)
    GROUP BY raters
),
-- Of graded prompts: shares, and what would agree by chance.
shares AS (
    SELECT
        *,
        1.959963984540054 AS z,  -- of the normal distribution 95% lie so near
        nullif(graded_prompts, 0) AS n,
        (true_positives + true_negatives) / n AS accuracy,
        (true_positives + false_positives) / n AS graded_yes,
        (true_positives + false_negatives) / n AS majority_yes,
        graded_yes * majority_yes + (1 - graded_yes) * (1 - majority_yes) AS by_chance,
        -- Without the last digits none is below 0 by chance.
        CASE WHEN by_chance < 1 THEN round((accuracy - by_chance) / (1 - by_chance), 12) + 0 END AS kappa
    FROM counted
),
-- Fleiss, Cohen and Everitt's variance of kappa (1969).
spread AS (
    SELECT
        *,
        z * sqrt(greatest(0, (
            true_positives / n * power(1 - (graded_yes + majority_yes) * (1 - kappa), 2)
            + true_negatives / n * power(1 - (2 - graded_yes - majority_yes) * (1 - kappa), 2)
            + power(1 - kappa, 2) * (
                false_positives / n * power(majority_yes + 1 - graded_yes, 2)
                + false_negatives / n * power(1 - majority_yes + graded_yes, 2))
            - power(kappa - by_chance * (1 - kappa), 2)
        ) / n)) / (1 - by_chance) AS kappa_half,
        (accuracy + z * z / (2 * n)) / (1 + z * z / n) AS middle,
        z * sqrt(accuracy * (1 - accuracy) / n + z * z / (4 * n * n)) / (1 + z * z / n) AS half
    FROM shares
),
-- McNemar's exact test of two candidates: on prompts where one alone is right, is it as often the one as the other?
alone_right AS (
    SELECT
        one.candidate,
        one.threshold,
        other.candidate AS other_candidate,
        count(*) AS prompts,
        count(*) FILTER (one.graded = one.majority AND other.graded <> one.majority) AS only_this,
        count(*) FILTER (one.graded <> one.majority AND other.graded = one.majority) AS only_other,
        only_this + only_other AS differing,
        least(only_this, only_other) AS fewer
    FROM compared AS one
    JOIN compared AS other
        ON other.prompt_id = one.prompt_id AND other.threshold = one.threshold AND other.candidate <> one.candidate
    WHERE one.majority IS NOT NULL AND one.graded IS NOT NULL AND other.graded IS NOT NULL
    GROUP BY ALL
),
tested AS (
    SELECT
        candidate,
        threshold,
        list({
            'candidate': other_candidate, 'prompts': prompts, 'only_this_right': only_this,
            'only_that_right': only_other,
            'p': round(least(1, 2 * list_sum(list_transform(range(fewer + 1), lambda k:
                exp(lgamma(differing + 1) - lgamma(k + 1) - lgamma(differing - k + 1) - differing * ln(2))))), 12)
        } ORDER BY other_candidate) AS mcnemar
    FROM alone_right
    GROUP BY ALL
)
SELECT
    * EXCLUDE (z, n, graded_yes, majority_yes, by_chance, kappa_half, middle, half) REPLACE (
        -- The last digits of a mean depend on the order of rows; these do not.
        round(human_unanimous, 12) AS human_unanimous,
        round(human_pairwise, 12) AS human_pairwise,
        round(human_majority, 12) AS human_majority),
    -- Wilson's interval.
    middle - half AS accuracy_low,
    middle + half AS accuracy_high,
    (true_positives / nullif(true_positives + false_negatives, 0)
        + true_negatives / nullif(true_negatives + false_positives, 0)) / 2 AS balanced_accuracy,
    round(kappa - kappa_half, 12) + 0 AS kappa_low,
    round(kappa + kappa_half, 12) + 0 AS kappa_high,
    (SELECT round(alpha, 12) FROM alphas WHERE raters = candidate) AS alpha,
    (SELECT round(alpha, 12) FROM alphas WHERE raters = 'the people') AS human_alpha
FROM spread
LEFT JOIN tested USING (candidate, threshold)
ORDER BY candidate, threshold
