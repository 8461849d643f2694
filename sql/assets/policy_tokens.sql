-- The token counts of each candidate with a text, by the policy's tokenizer: `counted` has them, those of earlier
-- makings among them. Where servers alone know the tokenizer, the counts of the engines that answered stand in: for the
-- prompt those of the policy's references, which have no system prompt before it, else the least.
WITH candidates AS (
    SELECT
        prompt_id,
        completion_id,
        training_row_id($tokenizer_fingerprint, messages_hash, text_hash) AS content_id,
        text_tokens
    FROM completions
    JOIN alignment_prompts USING (prompt_id)
    WHERE text_hash IS NOT NULL AND (list_contains($completions_models, model) OR model = $policy)
),
by_engines AS (
    SELECT prompt_id, coalesce(min(prompt_tokens) FILTER (model = $policy), min(prompt_tokens)) AS asked_tokens
    FROM completions
    WHERE $tokenizer_fingerprint IS NULL AND (list_contains($completions_models, model) OR model = $policy)
    GROUP BY prompt_id
)
SELECT
    $policy AS policy,
    prompt_id,
    completion_id,
    content_id,
    coalesce(counted.prompt_tokens, asked_tokens) AS prompt_tokens,
    CASE WHEN $tokenizer_fingerprint IS NULL THEN text_tokens ELSE counted.completion_tokens END AS completion_tokens,
    CASE
        WHEN $tokenizer_fingerprint IS NOT NULL THEN missing_reason
        WHEN asked_tokens IS NULL OR text_tokens IS NULL THEN 'the engine that answered told no counts'
    END AS missing_reason,
    $tokenizer_fingerprint::VARCHAR AS tokenizer_fingerprint
FROM candidates
LEFT JOIN by_engines USING (prompt_id)
LEFT JOIN counted USING (content_id)
-- Ids of prompts that stand one after the other take a fraction of the room.
ORDER BY prompt_id
