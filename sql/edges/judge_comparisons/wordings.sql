-- What the judge is told.
SELECT wording_id, wording_hash
FROM wordings
WHERE wording_id IN ('compare_charter_system', 'compare_question')
