-- How they are made worse.
SELECT wording_id, wording_hash
FROM wordings
WHERE kind = 'degradation' OR wording_id = 'degrade_system'
