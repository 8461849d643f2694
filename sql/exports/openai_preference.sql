-- Pairs in the form of OpenAI's preference fine-tuning.
-- Lines: input, preferred_output, non_preferred_output
SELECT
    pair_id,
    prompt_id,
    {'messages': prompt, 'tools': []::VARCHAR[], 'parallel_tool_calls': true} AS input,
    chosen AS preferred_output,
    rejected AS non_preferred_output
FROM dpo_pairs
WHERE policy = $policy
