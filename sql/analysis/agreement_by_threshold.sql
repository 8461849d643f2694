-- How far do the grades agree with the majority of people, at each threshold, and how far do people agree with each
-- other? A prompt is controversial from the threshold on. accuracy_low and accuracy_high are Wilson's interval of 95%.
-- Page: controversy_agreement as lines: threshold, accuracy, accuracy_low, accuracy_high, human_majority
WITH compared AS (
    SELECT
        *,
        true_positives + false_positives + true_negatives + false_negatives AS n,
        1.96 AS z
    FROM controversy_agreement
),
-- Where nothing was compared there is no accuracy.
intervals AS (
    SELECT
        *,
        (accuracy + z * z / (2 * n)) / (1 + z * z / n) AS middle,
        z * sqrt(accuracy * (1 - accuracy) / n + z * z / (4 * n * n)) / (1 + z * z / n) AS half
    FROM compared
)
SELECT
    threshold,
    is_recipe_threshold,
    n AS prompts_compared,
    true_positives,
    false_positives,
    true_negatives,
    false_negatives,
    round(accuracy, 4) AS accuracy,
    round(middle - half, 4) AS accuracy_low,
    round(middle + half, 4) AS accuracy_high,
    round(human_unanimous, 4) AS human_unanimous,
    round(human_pairwise, 4) AS human_pairwise,
    round(human_majority, 4) AS human_majority
FROM intervals
ORDER BY threshold
