-- How far do grades and people agree at the recipe's threshold?
-- Page: controversy_agreement as numbers
SELECT
    round(accuracy, 4) AS agreement_accuracy,
    graded_prompts AS agreement_prompts,
    round(kappa, 4) AS agreement_kappa,
    round(human_majority, 4) AS agreement_of_people
FROM controversy_agreement
WHERE is_recipe_threshold
