-- Whose kin a judge is, and what the recipe wants of it.
SELECT
    $models_family AS families,
    $rewards_standard_model AS standard_model,
    $rewards_controversial_model AS controversial_model
