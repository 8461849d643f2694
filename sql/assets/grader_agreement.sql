-- The report's validation (section 4.1.4) of each candidate that was tried; `figures` is sql/agreement.
WITH tried AS (
    SELECT
        candidate,
        any_value(model) AS model,
        any_value(wording) AS wording,
        count(*) AS tried_prompts,
        count(*) FILTER (grade IS NULL) AS unparsable_prompts
    FROM grader_trials
    GROUP BY candidate
)
SELECT
    figures.* EXCLUDE (unmatched_prompts),
    model,
    wording,
    candidate = $controversy_model || '.' || $controversy_wording AS is_grader,
    threshold = $controversy_threshold AS is_recipe_threshold,
    unmatched_prompts AS untried_prompts,
    tried_prompts,
    unparsable_prompts
FROM figures
JOIN tried USING (candidate)
ORDER BY candidate, threshold
