-- The pairs of an export, as they are compared: its format dpo, in $files, of the policy that its manifest names.
-- Texts are compared by their hashes.
SELECT
    $policy AS policy,
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
FROM read_parquet($files)
