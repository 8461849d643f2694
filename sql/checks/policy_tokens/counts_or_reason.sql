-- A candidate has both counts, or the reason why it has none.
SELECT completion_id, prompt_tokens, completion_tokens, missing_reason
FROM policy_tokens
WHERE (missing_reason IS NULL) <> (prompt_tokens IS NOT NULL AND completion_tokens IS NOT NULL)
