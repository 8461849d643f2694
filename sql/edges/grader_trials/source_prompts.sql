-- Those of which labels have the id alone, and that the recipe's limit keeps out.
SELECT dataset AS upstream_partition, row_number, prompt_id, messages_hash
FROM source_prompts
SEMI JOIN (FROM human_labels WHERE malformed_reason IS NULL AND messages IS NULL) AS named USING (prompt_id)
SEMI JOIN (FROM prompt_exclusions WHERE rule = 'limit') AS beyond USING (dataset, row_number)
