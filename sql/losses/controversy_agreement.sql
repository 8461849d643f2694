-- Labelled prompts that nobody was asked to grade: their labels say nothing of the grader.
SELECT
    NULL AS part,
    NULL AS track,
    'unmatched labels' AS loss,
    NULL AS limit_name,
    'no graded prompt has the text or the id' AS reason,
    unmatched_prompts AS lost,
    labelled_prompts AS of_rows,
    NULL AS example
FROM controversy_agreement
WHERE is_recipe_threshold AND unmatched_prompts > 0
