-- Which prompts are drawn, and whose kin a judge is.
SELECT
    $calibration_prompts AS prompts,
    $seed AS seed,
    $models_family AS families,
    $rewards_standard_model AS standard_model,
    $rewards_controversial_model AS controversial_model
