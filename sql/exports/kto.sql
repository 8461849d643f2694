-- One completion a row with a label, as TRL's KTOTrainer takes it: true where it is the chosen one of its pair.
SELECT
    sample_id,
    prompt_id,
    prompt,
    completion,
    selected_as = 'chosen' AS label
FROM qrpo_samples
WHERE policy = $policy
