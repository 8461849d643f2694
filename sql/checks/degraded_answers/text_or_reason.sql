-- A rung has a text that no earlier one has, or the reason why nothing is asked about it.
SELECT scorer, prompt_id, step, missing_reason
FROM degraded_answers
WHERE text_hash IS NULL AND missing_reason IS NULL
