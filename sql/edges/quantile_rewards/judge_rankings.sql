-- The ranks of controversial candidates.
SELECT policy AS upstream_partition, completion_id, rank_reward
FROM judge_rankings
WHERE policy = $policy
