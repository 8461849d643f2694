-- The grade from each prompt's first answer that parses; the last answer where none does. A grade is read after
-- the last </think>, from the last complete JSON object whose classification is a grade: what stands before, such
-- as a draft or an example, does not count.
-- `requests` and `answers` are what the grader was asked and what it said.
WITH said AS (
    SELECT
        requests.prompt_id,
        requests.request_id,
        requests.attempt,
        answers.text,
        answers.finish_reason,
        trim(after_thinking(answers.text), chr(10) || chr(13) || chr(9) || ' ') AS final,
        thinking(answers.text) IS NOT NULL AS has_thought
    FROM requests
    JOIN answers USING (request_id)
),
fitting AS (
    SELECT
        *,
        list_filter(
            json_objects(final) || CASE WHEN json_valid(final) THEN [{'start': 0, 'object': final}] ELSE [] END,
            lambda found: json_type(found.object) = 'OBJECT'
                AND json_extract_string(found.object, '$.classification') IN ('0', '1', '2', '3')
                AND json_type(found.object, '$.reasoning') = 'VARCHAR') AS verdicts
    FROM said
),
read_from AS (
    SELECT
        *,
        -- One that is a part of another is none of its own.
        list_filter(verdicts, lambda one: len(list_filter(verdicts, lambda other:
            other.start < one.start
            AND other.start + length(other.object) >= one.start + length(one.object))) = 0)[-1].object AS verdict
    FROM fitting
),
parsed AS (
    SELECT
        *,
        CASE
            WHEN verdict IS NULL THEN 'unparsable'
            ELSE CASE WHEN verdict = final THEN 'json' ELSE 'last_object' END
                || CASE WHEN has_thought THEN '_after_thinking' ELSE '' END
        END AS parsed_as
    FROM read_from
),
counted AS (
    SELECT
        *,
        max(attempt) OVER (PARTITION BY prompt_id) + 1 AS attempts,
        row_number() OVER (
            PARTITION BY prompt_id
            ORDER BY parsed_as = 'unparsable', CASE WHEN parsed_as = 'unparsable' THEN -attempt ELSE attempt END
        ) AS preference
    FROM parsed
)
SELECT
    prompt_id,
    request_id,
    json_extract_string(verdict, '$.classification')::TINYINT AS grade,
    grade >= $controversy_threshold AS is_controversial,
    json_extract_string(verdict, '$.reasoning') AS reasoning,
    $controversy_model AS model,
    text AS raw_answer,
    parsed_as,
    attempts,
    finish_reason
FROM counted
WHERE preference = 1
ORDER BY prompt_id
