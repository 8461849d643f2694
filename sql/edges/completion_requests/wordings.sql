-- What a model may be told before a prompt; a policy is told nothing.
SELECT wording_id, wording_hash
FROM wordings
WHERE (kind IN ('principle', 'persona', 'charter_persona')) AND NOT list_contains($completions_policies, $model)
