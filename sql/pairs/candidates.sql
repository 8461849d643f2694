-- What a strategy selects from: the completions that a policy's pairs may be drawn from. `prompt` is the
-- prompt's id, `candidate` the completion's number; `text` is a hash of the text as a number, because joins over
-- hashes of 64 characters take many times the memory. Draws go by sha256(named_by), the completion's hash, which
-- is made for those alone that are drawn among. `band_rank` counts the bands from the best: above_all 1, best 2,
-- middle 3, worst 4.
SELECT
    prompt_id AS prompt,
    quantile_rewards.rowid AS candidate,
    completion_id,
    completion_parts(prompt_hash, model, variant, sample_index) AS named_by,
    normal_hash AS text,
    reward,
    quantile,
    list_position(['above_all', 'best', 'middle', 'worst'], band)::UTINYINT AS band_rank
FROM quantile_rewards
LEFT JOIN (SELECT prompt_id, prompt_hash FROM alignment_prompts) AS asked USING (prompt_id)
WHERE policy = $policy AND ineligible_reason IS NULL AND n_references >= $selection_min_references
