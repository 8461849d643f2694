-- What each origin's sites say to crawlers.
SELECT origin_url, status, reason
FROM origin_consent
