-- The training rows of one model's answers that nobody has counted by the policy's tokenizer yet: the conversation as
-- read, and the answer. The answers to a prompt stand together as far as the table has them so.
SELECT
    content_id::VARCHAR AS content_id,
    messages || [{'role': 'assistant', 'content': text}] AS messages
FROM (
    SELECT
        training_row_id($tokenizer_fingerprint, messages_hash, text_hash) AS content_id,
        alignment_prompts.messages,
        completions.text
    FROM completions
    JOIN alignment_prompts USING (prompt_id)
    WHERE model = $model AND text_hash IS NOT NULL
)
WHERE content_id NOT IN (
    SELECT content_id
    FROM policy_tokens
    WHERE tokenizer_fingerprint = $tokenizer_fingerprint AND missing_reason IS NULL
)
