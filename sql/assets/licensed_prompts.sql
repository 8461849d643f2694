-- What the rules of prompt_exclusions leave of the preference mix.
SELECT
    prompt_id, messages, messages_hash, source, upstream_id, origin_url, preference_mix.origin_domain,
    CASE WHEN status = 'admitted' THEN 'robots_txt' ELSE 'source_rule' END AS consent_basis,
    row_number
FROM preference_mix
LEFT JOIN origin_consent USING (origin_url)
WHERE row_number NOT IN (SELECT row_number FROM prompt_exclusions WHERE dataset = 'preference_mix')
ORDER BY row_number
