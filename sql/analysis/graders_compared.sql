-- How far does each candidate for the grader agree with the majority of people, at each threshold, beside the report's
-- figures for its own 800 labels (section 4.1.4)? Columns as in agreement_by_threshold; those that begin with human_
-- are the people among themselves.
-- Page: grader_agreement as bars: candidate, accuracy, threshold
SELECT
    candidate,
    threshold::VARCHAR AS threshold,
    is_grader AND is_recipe_threshold AS is_in_use,
    graded_prompts AS prompts_compared,
    unparsable_prompts,
    round(accuracy, 4) AS accuracy,
    round(accuracy_low, 4) AS accuracy_low,
    round(accuracy_high, 4) AS accuracy_high,
    round(balanced_accuracy, 4) AS balanced_accuracy,
    round(kappa, 4) AS kappa,
    round(kappa_low, 4) AS kappa_low,
    round(kappa_high, 4) AS kappa_high,
    round(alpha, 4) AS alpha,
    round(human_unanimous, 4) AS human_unanimous,
    round(human_pairwise, 4) AS human_pairwise,
    round(human_majority, 4) AS human_majority,
    round(human_alpha, 4) AS human_alpha
FROM (
    SELECT 1 AS place, *
    FROM grader_agreement
    UNION ALL BY NAME
    SELECT *, 'unknown' AS threshold, 800 AS graded_prompts
    FROM (
        VALUES
            (2, 'report, the one used', 0.73, 0.52, 0.66, 0.83),
            (3, 'report, the best of 16', 0.734, NULL, NULL, NULL),
            (4, 'report, the worst of 16', 0.593, NULL, NULL, NULL)
    ) AS published (place, candidate, accuracy, human_unanimous, human_pairwise, human_majority)
    WHERE EXISTS (FROM grader_agreement)
)
ORDER BY place, candidate, threshold
