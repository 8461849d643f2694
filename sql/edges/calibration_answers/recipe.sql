-- Who scores and compares, and how, and on which prompts.
SELECT
    $calibration_prompts AS prompts,
    $seed AS seed,
    $rewards_min_score_mass AS min_score_mass,
    $rewards_standard_model AS standard_model,
    $rewards_standard_task AS standard_task,
    $rewards_standard_rubric AS standard_rubric,
    $rewards_controversial_model AS controversial_model,
    $rewards_controversial_task AS controversial_task,
    $rewards_controversial_rubric AS controversial_rubric,
    $rewards_comparison_judge AS comparison_judge
