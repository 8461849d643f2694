-- No prompt whose origin forbids AI crawling.
SELECT dataset, prompt_id, licensed_prompts.origin_url, blocked_agents
FROM licensed_prompts
JOIN origin_consent USING (origin_url)
WHERE status = 'blocked'
