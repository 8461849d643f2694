-- Which requests of one model that are not final would be asked with other inputs now than those that they are
-- named by: their answers would be kept under a name that is not theirs. One row a request, with the first input
-- that moved.
SELECT
    request_id,
    'completion_requests' AS remake,
    CASE
        WHEN model_fingerprint <> $model_fingerprint
            THEN 'the model''s weights, chat template, template arguments or template_date'
        WHEN coalesce(wordings.wording_hash, '') <> coalesce(completion_requests.wording_hash, '')
            THEN 'the wording ' || wording_id
        WHEN completion_requests.persona_id IS NOT NULL AND people.persona_id IS NULL THEN 'a persona'
        WHEN alignment_prompts.prompt_id IS NULL THEN 'a prompt that is no longer among alignment_prompts'
        ELSE 'a prompt''s messages'
    END AS what
FROM (FROM completion_requests WHERE model = $model AND request_id NOT IN (FROM final)) AS completion_requests
LEFT JOIN alignment_prompts USING (prompt_id)
LEFT JOIN wordings USING (wording_id)
LEFT JOIN (SELECT DISTINCT persona_id, persona_hash FROM personas WHERE malformed_reason IS NULL) AS people
    USING (persona_id)
WHERE alignment_prompts.prompt_id IS NULL
    OR (completion_requests.persona_id IS NOT NULL AND people.persona_id IS NULL)
    OR request_id <> request_hash(
        completion_hash(prompt_hash, model, variant, sample_index), 'generate', $model_fingerprint,
        content_hash([alignment_prompts.messages_hash, wordings.wording_hash, persona_hash]),
        sampling, NULL)
