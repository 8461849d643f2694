-- What a strategy selects from: the completions that a policy's pairs may be drawn from. Keys are
-- numbers, because joins over ids of 64 characters take twice the time and many times the memory:
-- `prompt` and `text` are hashes of the prompt's id and of the text; `candidate` is the completion's
-- number. `band_rank` counts the bands from the best: above_all 1, best 2, middle 3, worst 4.
SELECT
    hash(prompt_id) AS prompt,
    rowid AS candidate,
    completion_id,
    hash(text_hash) AS text,
    reward,
    list_position(['above_all', 'best', 'middle', 'worst'], band)::UTINYINT AS band_rank
FROM quantile_rewards
WHERE policy = $policy AND ineligible_reason IS NULL AND n_references >= $selection_min_references
