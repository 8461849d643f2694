-- All candidates of a policy are scored by one making of each track's scorer.
SELECT policy, track, string_agg(model || ' by ' || left(scorer_fingerprint, 8), ', ' ORDER BY model) AS scored
FROM (SELECT DISTINCT policy FROM quantile_rewards)
JOIN (SELECT DISTINCT model, track, scorer_fingerprint FROM rewards WHERE scorer_fingerprint IS NOT NULL) AS scorers
    ON scorers.model = policy OR list_contains($completions_models, scorers.model)
GROUP BY policy, track
HAVING count(DISTINCT scorer_fingerprint) > 1
