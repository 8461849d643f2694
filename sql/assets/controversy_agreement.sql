-- The report's validation (section 4.1.4) of the grades that are in use; `figures` is sql/agreement.
SELECT
    * EXCLUDE (candidate, mcnemar),
    threshold = $controversy_threshold AS is_recipe_threshold
FROM figures
ORDER BY threshold
