-- No prompt whose origin forbids AI crawling, refuses training, or is on a list of blocked domains.
SELECT dataset, prompt_id, licensed_prompts.origin_url, reason
FROM licensed_prompts
JOIN origin_consent USING (origin_url)
WHERE refuses(status)
