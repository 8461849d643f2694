-- What the grader is asked: one request for each licensed prompt of a graded source and each attempt.
-- Later attempts are for prompts whose earlier answers do not parse.
SELECT
    licensed_prompts.prompt_id,
    $attempt::INTEGER AS attempt,
    request_hash(
        prompt_hash || '/' || $attempt::VARCHAR, 'grade', $model_fingerprint,
        content_hash([messages_hash, system.wording_hash, question.wording_hash]),
        $sampling, $answer_schema) AS request_id,
    'generate' AS kind,
    asked_with(system.text, filled(question.text, map(['prompt'], [as_transcript(messages)]))) AS messages,
    $sampling AS sampling,
    NULL::VARCHAR[] AS labels,
    $answer_schema AS answer_schema,
    {'longest_first': -conversation_length(messages), 'prompt': prompt_id} AS asking_order
FROM licensed_prompts
-- A prompt of several graded sources is asked about once, as the first has it.
JOIN (
    SELECT prompt_id, min(dataset_order) AS dataset_order
    FROM licensed_prompts
    WHERE track = 'graded'
    GROUP BY prompt_id
) AS graded USING (prompt_id, dataset_order)
CROSS JOIN (SELECT * FROM wordings WHERE wording_id = $controversy_wording || '_system') AS system
CROSS JOIN (SELECT * FROM wordings WHERE wording_id = $controversy_wording || '_question') AS question
WHERE $only_prompts IS NULL OR list_contains($only_prompts::UUID[], prompt_id)
