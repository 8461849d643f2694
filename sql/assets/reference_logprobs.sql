-- The policy's log-probability of each completion that it was asked about; what it could not tell keeps its row and the
-- reason.
SELECT
    $policy AS policy,
    requests.prompt_id,
    requests.completion_id,
    request_id,
    CASE WHEN isfinite(answers.value) THEN answers.value END AS logprob,
    CASE WHEN isfinite(answers.value) THEN answers.prompt_tokens END AS prompt_tokens,
    CASE WHEN isfinite(answers.value) THEN answers.completion_tokens END AS completion_tokens,
    CASE
        WHEN isfinite(answers.value) THEN NULL
        ELSE 'no log-probability: ' || coalesce(answers.error, answers.finish_reason)
    END AS missing_reason,
    requests.model_fingerprint
FROM requests
JOIN answers USING (request_id)
ORDER BY requests.prompt_id
