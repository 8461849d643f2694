-- The rungs of ladders in the shape of completions, so that the question of a scorer is asked about them as it is.
SELECT
    rung_id AS completion_id,
    prompt_id,
    'ladder' AS model,
    step_name AS variant,
    step AS sample_index,
    text,
    text_hash
FROM degraded_answers
WHERE scorer = $scorer AND missing_reason IS NULL
