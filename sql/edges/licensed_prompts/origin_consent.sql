-- What a prompt is admitted by.
SELECT origin_url, status
FROM origin_consent
