-- A completion has a log-probability, which is at most 0, and the number of its tokens; or the reason why not.
SELECT completion_id, logprob, completion_tokens, missing_reason
FROM reference_logprobs
WHERE
    (missing_reason IS NULL) <> (logprob IS NOT NULL AND completion_tokens IS NOT NULL)
    OR logprob > 1e-3
