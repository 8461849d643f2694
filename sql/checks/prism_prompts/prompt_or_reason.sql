-- A row has a prompt, or the reason why not.
SELECT row_number, malformed_reason
FROM prism_prompts
WHERE (malformed_reason IS NULL) <> (messages IS NOT NULL AND messages_hash IS NOT NULL)
