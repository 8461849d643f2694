-- A row has a prompt that ends with a user message, or the reason why not.
SELECT row_number, malformed_reason
FROM preference_mix
WHERE (malformed_reason IS NULL) <> (messages IS NOT NULL AND messages_hash IS NOT NULL)
    OR messages[-1].role <> 'user'
