-- A candidate's grades of the prompts that people have labelled (report, section 4.1.4: several prompts and models were
-- tried). `grades` is what controversy_labels makes of such answers.
SELECT
    $candidate AS candidate,
    model,
    string_split($candidate, '.')[-1] AS wording,
    prompt_id,
    request_id,
    grade,
    reasoning,
    raw_answer,
    parsed_as,
    attempts,
    finish_reason
FROM grades
ORDER BY prompt_id
