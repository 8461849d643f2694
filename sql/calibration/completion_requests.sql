-- What stands in for completions in the shape of their requests, for a scorer's question that reads those as well.
SELECT
    completion_id,
    completion_id AS request_id,
    prompt_id,
    track,
    model,
    variant,
    sample_index,
    NULL::VARCHAR AS principle,
    NULL::VARCHAR AS wording_id,
    NULL::VARCHAR AS wording_hash,
    NULL::UUID AS persona_id,
    NULL::VARCHAR AS model_fingerprint,
    NULL::VARCHAR AS sampling
FROM completions
JOIN alignment_prompts USING (prompt_id)
