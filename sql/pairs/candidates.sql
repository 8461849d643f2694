-- What a strategy selects from: the completions that a policy's pairs may be drawn from. `candidate` is the
-- completion's id, by which draws go; `prompt` is a number for the prompt, and `text` a hash of the text as a number,
-- because grouping and joins over narrow keys take a fraction of the time and memory. `band_rank` counts the bands
-- from the best: above_all 1, best 2, middle 3, worst 4. `is_reference` says that the policy wrote it, and
-- `model_place` which place its model has in `selection.model_order`, if any.
SELECT
    prompt,
    completion_id AS candidate,
    normal_hash AS text,
    reward,
    quantile,
    CASE band WHEN 'above_all' THEN 1 WHEN 'best' THEN 2 WHEN 'middle' THEN 3 WHEN 'worst' THEN 4 END::UTINYINT
        AS band_rank,
    model = $policy AND variant = 'reference' AS is_reference,
    list_position($selection_model_order, model)::UTINYINT AS model_place
FROM quantile_rewards
JOIN (SELECT prompt_id, (row_number() OVER ())::UINTEGER AS prompt FROM alignment_prompts) AS numbered USING (prompt_id)
WHERE policy = $policy AND ineligible_reason IS NULL AND n_references >= $selection_min_references
