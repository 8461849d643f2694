-- What a candidate for the grader is asked: one request for each prompt that people have labelled and each attempt, as
-- the grader is asked. The prompt is as its labels have it; where they have its id alone, as an admitted row of a
-- source has it, or one that nothing but the recipe's limit keeps out. A candidate's name ends in that of its wording.
WITH labelled AS (
    SELECT
        prompt_id,
        arg_min(prompt_hash, row_number) AS prompt_hash,
        arg_min(messages, row_number) AS messages,
        arg_min(messages_hash, row_number) AS messages_hash
    FROM human_labels
    WHERE malformed_reason IS NULL
    GROUP BY prompt_id
),
admitted AS (
    SELECT dataset, row_number, prompt_id, prompt_hash, messages, messages_hash
    FROM licensed_prompts
    UNION ALL
    SELECT dataset, row_number, prompt_id, prompt_hash, messages, messages_hash
    FROM source_prompts
    SEMI JOIN (FROM prompt_exclusions WHERE rule = 'limit') AS beyond USING (dataset, row_number)
),
read AS (
    SELECT
        prompt_id,
        first(prompt_hash ORDER BY dataset, row_number) AS prompt_hash,
        first(messages ORDER BY dataset, row_number) AS messages,
        first(messages_hash ORDER BY dataset, row_number) AS messages_hash
    FROM admitted
    SEMI JOIN (FROM labelled WHERE messages IS NULL) AS named USING (prompt_id)
    GROUP BY prompt_id
)
SELECT
    prompt_id,
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
FROM (FROM labelled WHERE messages IS NOT NULL UNION ALL BY NAME FROM read)
CROSS JOIN (SELECT * FROM wordings WHERE wording_id = string_split($candidate, '.')[-1] || '_system') AS system
CROSS JOIN (SELECT * FROM wordings WHERE wording_id = string_split($candidate, '.')[-1] || '_question') AS question
WHERE $only_prompts IS NULL OR list_contains($only_prompts::UUID[], prompt_id)
