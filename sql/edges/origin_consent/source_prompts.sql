-- Where rows come from.
SELECT dataset AS upstream_partition, origin_url
FROM source_prompts
WHERE dataset IN (SELECT unnest($prompts).name) AND origin_url IS NOT NULL
