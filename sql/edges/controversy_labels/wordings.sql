-- What the grader is told.
SELECT wording_id, wording_hash
FROM wordings
WHERE wording_id IN ('controversy_system', 'controversy_question')
