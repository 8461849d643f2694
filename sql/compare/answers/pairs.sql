-- Each pair, what became of it and why; those that are kept come last.
SELECT
    policy,
    pair_id::VARCHAR AS pair_id,
    prompt_id::VARCHAR AS prompt_id,
    kind,
    reason,
    chosen_model_a,
    chosen_model_b,
    rejected_model_a,
    rejected_model_b
FROM compared
ORDER BY policy, list_position(['changed', 'new', 'gone', 'kept'], kind), reason, pair_id
