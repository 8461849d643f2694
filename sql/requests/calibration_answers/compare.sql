-- What the judge of comparisons is asked about the rungs of a ladder: all pairs, both orders of presentation.
WITH rungs AS (
    SELECT
        prompt_id,
        rung_id,
        text,
        text_hash,
        completion_hash(prompt_hash, 'ladder', step_name, step) AS rung_hash
    FROM degraded_answers
    JOIN alignment_prompts USING (prompt_id)
    WHERE scorer = $scorer AND missing_reason IS NULL
)
SELECT
    a.rung_id AS completion_id,
    b.rung_id AS second_completion_id,
    'comparison' AS asked_as,
    request_hash(
        a.rung_hash || '/' || b.rung_hash, 'compare', $scorer_fingerprint,
        content_hash([messages_hash, a.text_hash, b.text_hash, system.wording_hash, question.wording_hash]),
        $thinking, NULL) AS request_id,
    'weigh' AS kind,
    asked_with(
        system.text,
        filled(question.text, map(['prompt', 'first', 'second'], [as_transcript(messages), a.text, b.text])))
        AS messages,
    coalesce($thinking, '{}') AS sampling,
    ['A', 'B'] AS labels,
    NULL::VARCHAR AS answer_schema,
    {
        'longest_first': -conversation_length(alignment_prompts.messages),
        'prompt': prompt_id,
        'first': a.rung_id,
        'second': b.rung_id
    } AS asking_order
FROM rungs AS a
JOIN rungs AS b USING (prompt_id)
JOIN alignment_prompts USING (prompt_id)
CROSS JOIN (SELECT * FROM wordings WHERE wording_id = 'compare_charter_system') AS system
CROSS JOIN (SELECT * FROM wordings WHERE wording_id = 'compare_question') AS question
WHERE a.rung_id <> b.rung_id
