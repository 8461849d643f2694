-- What the judge is asked about one policy's first candidates of each controversial prompt: all pairs,
-- both orders of presentation.
WITH best AS NOT MATERIALIZED (
    SELECT prompt_id, completion_id, completion_hash, completions.text, completions.text_hash
    FROM controversial_candidates('rewards', 'alignment_prompts', $seed, $completions_models, $policy)
    JOIN completions USING (prompt_id, completion_id)
    WHERE score_position <= $rewards_compared_candidates
)
SELECT
    prompt_id,
    a.completion_id AS first_completion_id,
    b.completion_id AS second_completion_id,
    request_hash(
        a.completion_hash || '/' || b.completion_hash, 'compare', $judge_fingerprint,
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
        'first': a.completion_id,
        'second': b.completion_id
    } AS asking_order
FROM best AS a
JOIN best AS b USING (prompt_id)
JOIN alignment_prompts USING (prompt_id)
CROSS JOIN (SELECT * FROM wordings WHERE wording_id = 'compare_charter_system') AS system
CROSS JOIN (SELECT * FROM wordings WHERE wording_id = 'compare_question') AS question
WHERE a.completion_id <> b.completion_id
