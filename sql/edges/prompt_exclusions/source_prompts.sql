-- All that a rule looks at.
SELECT
    dataset AS upstream_partition, row_number, prompt_id, messages_hash, source, language, upstream_id,
    origin_url, origin_domain, extra, malformed_reason
FROM source_prompts
WHERE dataset IN (SELECT unnest($prompts).name)
