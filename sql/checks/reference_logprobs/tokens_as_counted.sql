-- The policy's engine has summed over the tokens that its tokenizer counts in the training row.
SELECT
    completion_id,
    reference_logprobs.prompt_tokens,
    counted.prompt_tokens AS counted_prompt_tokens,
    reference_logprobs.completion_tokens,
    counted.completion_tokens AS counted_completion_tokens
FROM reference_logprobs
JOIN policy_tokens AS counted USING (policy, completion_id)
WHERE
    reference_logprobs.prompt_tokens <> counted.prompt_tokens
    OR reference_logprobs.completion_tokens <> counted.completion_tokens
