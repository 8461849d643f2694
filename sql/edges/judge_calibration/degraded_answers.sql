-- The ladders.
SELECT scorer AS upstream_partition, rung_id, completion_id, step_name, text_hash
FROM degraded_answers
WHERE scorer = $scorer
