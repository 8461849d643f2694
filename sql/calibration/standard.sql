-- Answers to the drawn standard prompts in the shape of completions of one model, so that the question of another
-- track's judge can be asked about all of them.
SELECT
    completion_id,
    prompt_id,
    'ladder' AS model,
    completions.model || '/' || variant AS variant,
    sample_index,
    text,
    text_hash
FROM completions
SEMI JOIN (
    SELECT prompt_id
    FROM alignment_prompts
    WHERE track = 'standard'
    ORDER BY sample_key($seed, 'calibration', prompt_hash), prompt_id
    LIMIT $calibration_prompts
) AS drawn USING (prompt_id)
WHERE list_contains($completions_models, completions.model)
