-- A row has a description, or the reason why not.
SELECT row_number, malformed_reason
FROM personas
WHERE (malformed_reason IS NULL) <> (persona IS NOT NULL)
