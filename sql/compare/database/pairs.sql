-- The pairs of a database, as they are compared: those of $policies, or of all policies where that is NULL. Texts
-- are compared by their hashes.
SELECT
    policy,
    pair_id::UUID AS pair_id,
    prompt_id::UUID AS prompt_id,
    track,
    chosen_completion_id::UUID AS chosen_completion_id,
    rejected_completion_id::UUID AS rejected_completion_id,
    chosen_model,
    rejected_model,
    chosen_reward,
    rejected_reward,
    chosen_quantile,
    rejected_quantile,
    chosen_tokens,
    rejected_tokens,
    hash(prompt::STRUCT(role VARCHAR, content VARCHAR)[]) AS prompt_text,
    hash(chosen::STRUCT(role VARCHAR, content VARCHAR)[]) AS chosen_text,
    hash(rejected::STRUCT(role VARCHAR, content VARCHAR)[]) AS rejected_text
FROM dpo_pairs
WHERE $policies IS NULL OR list_contains($policies::VARCHAR[], policy)
