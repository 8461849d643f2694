-- What the candidate is told: its name ends in that of its wording.
SELECT wording_id, wording_hash
FROM wordings
WHERE wording_id IN (
    string_split($candidate, '.')[-1] || '_system', string_split($candidate, '.')[-1] || '_question')
