-- What do answers look like? Five of each model, drawn by their ids, which are hashes. row_id is the completion_id.
-- Page: completions as texts
WITH drawn AS (
    SELECT unnest(min(completion_id, 5)) AS completion_id
    FROM completions
    WHERE text_tokens > 0
    GROUP BY model
)
SELECT
    completion_id AS row_id,
    prompt_id,
    model,
    variant,
    finish_reason,
    text_tokens,
    alignment_prompts.messages[-1].content AS prompt,
    completions.text
FROM completions
SEMI JOIN drawn USING (completion_id)
LEFT JOIN alignment_prompts USING (prompt_id)
ORDER BY model, completion_id
