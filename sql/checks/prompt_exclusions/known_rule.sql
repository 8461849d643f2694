-- Every rule is one that the table's description names.
SELECT *
FROM prompt_exclusions
WHERE rule NOT IN ('malformed', 'licence', 'consent', 'keep', 'too_long', 'repeat', 'limit')
