-- A variant that needs a wording, a principle or a persona has one.
SELECT completion_id, variant, wording_id, principle, persona_id
FROM completion_requests
WHERE (variant IN ('principle', 'persona', 'charter') AND wording_hash IS NULL)
    OR (variant = 'principle') <> (principle IS NOT NULL)
    OR (variant = 'persona') <> (persona_id IS NOT NULL)
