-- The prompts that people have labelled, as their labels have them.
SELECT row_number, prompt_id, messages_hash
FROM human_labels
WHERE malformed_reason IS NULL
