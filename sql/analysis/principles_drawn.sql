-- Are principles and their wordings drawn evenly? Requests under each principle, and under its rarest and its commonest
-- wording.
-- Page: completion_requests
WITH drawn AS (
    SELECT model, principle, wording_id, count(*) AS requests
    FROM completion_requests
    WHERE principle IS NOT NULL
    GROUP BY model, principle, wording_id
)
SELECT
    model,
    principle,
    sum(requests)::BIGINT AS requests,
    count(*) AS wordings,
    min(requests) AS of_the_rarest_wording,
    max(requests) AS of_the_commonest_wording
FROM drawn
GROUP BY model, principle
ORDER BY model, principle
