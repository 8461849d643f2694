-- The grade from each prompt's first answer that parses; the last answer where none does.
-- `requests` and `answers` are what the grader was asked and what it said.
WITH parsed AS (
    SELECT
        requests.prompt_id,
        requests.request_id,
        requests.attempt,
        answers.text,
        answers.finish_reason,
        CASE
            WHEN json_valid(answers.text)
                AND json_extract_string(answers.text, '$.classification') IN ('0', '1', '2', '3') THEN 'json'
            WHEN regexp_matches(answers.text, '"classification"\s*:\s*"?[0-3]"?\s*[,}]') THEN 'fragment'
            ELSE 'unparsable'
        END AS parsed_as
    FROM requests
    JOIN answers USING (request_id)
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
),
graded AS (
    SELECT
        *,
        CASE parsed_as
            WHEN 'json' THEN json_extract_string(text, '$.classification')::TINYINT
            WHEN 'fragment'
                THEN regexp_extract(text, '"classification"\s*:\s*"?([0-3])"?\s*[,}]', 1)::TINYINT
        END AS grade
    FROM counted
    WHERE preference = 1
)
SELECT
    prompt_id,
    request_id,
    grade,
    grade >= $controversy_threshold AS is_controversial,
    CASE parsed_as
        WHEN 'json' THEN json_extract_string(text, '$.reasoning')
        WHEN 'fragment' THEN nullif(regexp_extract(text, '"reasoning"\s*:\s*"((?:[^"\\]|\\.)*)"', 1), '')
    END AS reasoning,
    $controversy_model AS model,
    text AS raw_answer,
    parsed_as,
    attempts,
    finish_reason
FROM graded
ORDER BY prompt_id
