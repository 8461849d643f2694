-- A row has a prompt that ends with a user message, or the reason why not.
SELECT dataset, row_number, malformed_reason
FROM source_prompts
WHERE (malformed_reason IS NULL) <> (messages IS NOT NULL AND messages_hash IS NOT NULL)
    OR messages[-1].role <> 'user'
