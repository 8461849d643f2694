-- Who scores, and how: rewards of two scorers are not compared.
SELECT
    $rewards_standard_model AS standard_model,
    $rewards_standard_task AS standard_task,
    $rewards_controversial_model AS controversial_model,
    $rewards_controversial_task AS controversial_task
