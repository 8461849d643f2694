-- What a judge is asked about one model's completions: a number from 1 to 9.
SELECT
    completions.completion_id,
    request_hash(
        completion_hash(prompt_hash, model, variant, sample_index), 'rate', $scorer_fingerprint,
        content_hash([messages_hash, text_hash, system.wording_hash, question.wording_hash]),
        $thinking, NULL)
        AS request_id,
    'weigh' AS kind,
    asked_with(
        system.text,
        filled(question.text, map(['prompt', 'completion'], [as_transcript(messages), completions.text]))) AS messages,
    coalesce($thinking, '{}') AS sampling,
    ['1', '2', '3', '4', '5', '6', '7', '8', '9'] AS labels,
    NULL::VARCHAR AS answer_schema,
    {
        'longest_first': -conversation_length(alignment_prompts.messages),
        'prompt': prompt_id,
        'completion': completion_id
    } AS asking_order
FROM completions
JOIN alignment_prompts USING (prompt_id)
CROSS JOIN (SELECT * FROM wordings WHERE wording_id = $rubric) AS system
CROSS JOIN (SELECT * FROM wordings WHERE wording_id = 'judge_question') AS question
WHERE model = $model AND track = $track AND completions.text_hash IS NOT NULL
