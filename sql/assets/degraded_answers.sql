-- Answers and what a model made of them, worse with each step: what a scorer is tried on. `requests` and `answers` are
-- what it was asked and what it said.
WITH rungs AS (
    SELECT DISTINCT
        requests.prompt_id,
        requests.completion_id,
        0 AS step,
        'original' AS step_name,
        NULL::UUID AS request_id,
        completions.text,
        completions.finish_reason
    FROM requests
    JOIN completions USING (completion_id)
    UNION ALL
    SELECT
        prompt_id,
        requests.completion_id,
        step,
        string_split(wording_id, '/')[-1],
        request_id,
        after_thinking(answers.text),
        answers.finish_reason
    FROM requests
    JOIN answers USING (request_id)
)
SELECT
    $scorer AS scorer,
    prompt_id,
    completion_id,
    step,
    step_name,
    as_id(completion_hash(prompt_hash, 'ladder', step_name, step)) AS rung_id,
    request_id,
    text,
    sha256(text) AS text_hash,
    $calibration_model AS model,
    CASE
        WHEN text IS NULL THEN 'no text: ' || finish_reason
        WHEN normal_hash(text) = normal_hash('') THEN 'empty text'
        WHEN row_number() OVER (PARTITION BY prompt_id, normal_hash(text) ORDER BY step) > 1
            THEN 'the text of an earlier step'
    END AS missing_reason
FROM rungs
JOIN alignment_prompts USING (prompt_id)
ORDER BY prompt_id, step
