-- How far do the grades agree with the majority of people, at each threshold, and how far do people agree with each
-- other? A prompt is controversial from the threshold on. The columns that end in _low and _high are intervals of 95%;
-- kappa is agreement beyond chance, alpha that of all grades from 0 to 3, of the people with the grader and without.
-- Page: controversy_agreement as lines: threshold, accuracy, accuracy_low, accuracy_high, human_majority
SELECT
    threshold,
    is_recipe_threshold,
    graded_prompts AS prompts_compared,
    true_positives,
    false_positives,
    true_negatives,
    false_negatives,
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
FROM controversy_agreement
ORDER BY threshold
