-- Each pair is compared in both orders.
SELECT one.policy, one.first_completion_id, one.second_completion_id
FROM judge_comparisons AS one
ANTI JOIN judge_comparisons AS other
    ON other.policy = one.policy
    AND other.first_completion_id = one.second_completion_id
    AND other.second_completion_id = one.first_completion_id
