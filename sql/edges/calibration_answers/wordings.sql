-- What judges are told.
SELECT wording_id, wording_hash
FROM wordings
WHERE wording_id IN (
    $rewards_standard_rubric, $rewards_controversial_rubric, 'judge_question', 'compare_charter_system',
    'compare_question')
