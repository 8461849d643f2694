-- The pairs that the recipe's strategy (sql/selection) has drawn for one policy, with what is known of
-- both completions. That is read once, for both sides.
WITH sides AS MATERIALIZED (
    SELECT *
    FROM (
        SELECT pair_index, 'chosen' AS side, chosen AS candidate FROM taken
        UNION ALL
        SELECT pair_index, 'rejected', rejected FROM taken
    )
    JOIN quantile_rewards ON completion_id = candidate AND policy = $policy
)
SELECT
    $policy AS policy,
    chosen.prompt_id,
    chosen.track,
    chosen.pair_index,
    chosen.completion_id AS chosen_completion_id,
    rejected.completion_id AS rejected_completion_id,
    chosen.normal_hash AS chosen_normal_hash,
    rejected.normal_hash AS rejected_normal_hash,
    chosen.reward AS chosen_reward,
    rejected.reward AS rejected_reward,
    chosen.quantile AS chosen_quantile,
    rejected.quantile AS rejected_quantile,
    chosen.band AS chosen_band,
    rejected.band AS rejected_band
FROM (FROM sides WHERE side = 'chosen') AS chosen
JOIN (FROM sides WHERE side = 'rejected') AS rejected USING (prompt_id, pair_index)
