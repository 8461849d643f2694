-- What do ladders of ever worse answers look like? Those of two prompts of each track. row_id is the rung_id.
-- Page: degraded_answers as texts
WITH drawn AS (
    SELECT scorer, unnest(min(prompt_id, 2)) AS prompt_id
    FROM degraded_answers
    GROUP BY scorer
)
SELECT
    rung_id AS row_id,
    prompt_id,
    scorer,
    step,
    step_name,
    missing_reason,
    alignment_prompts.messages[-1].content AS prompt,
    degraded_answers.text
FROM degraded_answers
SEMI JOIN drawn USING (scorer, prompt_id)
LEFT JOIN alignment_prompts USING (prompt_id)
ORDER BY scorer, prompt_id, step
