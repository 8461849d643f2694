-- Which prompts are drawn, and whose answers are made worse.
SELECT $calibration_prompts AS prompts, $calibration_model AS model, $seed AS seed
