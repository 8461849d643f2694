-- What the grader is told.
SELECT wording_id, wording_hash
FROM wordings
WHERE wording_id IN ($controversy_wording || '_system', $controversy_wording || '_question')
