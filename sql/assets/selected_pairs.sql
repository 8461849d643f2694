-- The pairs that the recipe's strategy (sql/selection) has drawn for one policy, with what is known of
-- both completions.
SELECT
    $policy AS policy,
    chosen.prompt_id,
    chosen.track,
    pair_index,
    chosen.completion_id AS chosen_completion_id,
    rejected.completion_id AS rejected_completion_id,
    chosen.text_hash AS chosen_text_hash,
    rejected.text_hash AS rejected_text_hash,
    chosen.reward AS chosen_reward,
    rejected.reward AS rejected_reward,
    chosen.quantile AS chosen_quantile,
    rejected.quantile AS rejected_quantile,
    chosen.band AS chosen_band,
    CASE WHEN chosen.prompt_id = rejected.prompt_id THEN rejected.band
        ELSE error('sql/selection/' || $selection_strategy || '.sql pairs completions of two prompts: '
            || chosen.completion_id || ' and ' || rejected.completion_id || '; join them on prompt')
    END AS rejected_band
FROM taken
JOIN (SELECT *, rowid AS candidate FROM quantile_rewards) AS chosen ON chosen.candidate = taken.chosen
JOIN (SELECT *, rowid AS candidate FROM quantile_rewards) AS rejected ON rejected.candidate = taken.rejected
