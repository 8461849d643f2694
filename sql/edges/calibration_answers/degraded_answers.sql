-- The rungs that are scored and compared.
SELECT scorer AS upstream_partition, rung_id, prompt_id, step, text_hash, missing_reason
FROM degraded_answers
WHERE scorer = $scorer
