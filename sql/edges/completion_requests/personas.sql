-- Whom a model may speak as; a policy speaks as nobody.
SELECT DISTINCT persona_id
FROM personas
WHERE malformed_reason IS NULL AND NOT list_contains($completions_policies, $model)
