-- What each page says to crawlers.
SELECT origin_url, status, blocked_agents
FROM origin_consent
