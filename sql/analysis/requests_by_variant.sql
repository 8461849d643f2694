-- What is each model asked? Requests by track and variant, and how many principles, wordings and personas were drawn
-- for them.
-- Page: completion_requests as bars: variant, requests, track
SELECT
    model,
    track,
    variant,
    count(*) AS requests,
    -- Of several samples of a prompt one is the first.
    count(*) FILTER (sample_index = 0) AS prompts,
    count(DISTINCT principle) AS principles,
    count(DISTINCT wording_id) AS wordings,
    count(DISTINCT persona_id) AS personas
FROM completion_requests
GROUP BY model, track, variant
ORDER BY model, track, variant
