-- What each comparison said.
SELECT
    policy AS upstream_partition, first_completion_id, second_completion_id, request_id, first_logprob,
    second_logprob
FROM judge_comparisons
WHERE policy = $policy
