-- Each pair of A (`pairs_a`) or B (`pairs_b`), with what became of it and why. A pair whose rewards alone are others
-- is kept: the row that a DPO trainer reads is the same. QRPO trains on rewards, so they have a reason of their own.
-- Why a pair is new or gone is in `absent_from_a` and `absent_from_b`.
WITH joined AS (
    SELECT
        pair_id,
        coalesce(b.policy, a.policy) AS policy,
        coalesce(b.prompt_id, a.prompt_id) AS prompt_id,
        a.policy IS NULL AS is_new,
        b.policy IS NULL AS is_gone,
        a.chosen_completion_id <> b.chosen_completion_id AS is_chosen_other,
        a.rejected_completion_id <> b.rejected_completion_id AS is_rejected_other,
        a.chosen_completion_id = b.rejected_completion_id
        AND a.rejected_completion_id = b.chosen_completion_id AS is_swapped,
        a.chosen_text <> b.chosen_text OR a.rejected_text <> b.rejected_text AS is_text_other,
        a.prompt_text <> b.prompt_text AS is_prompt_other,
        a.chosen_reward <> b.chosen_reward OR a.rejected_reward <> b.rejected_reward
        OR a.chosen_quantile <> b.chosen_quantile OR a.rejected_quantile <> b.rejected_quantile AS is_reward_other,
        a.chosen_model AS chosen_model_a,
        b.chosen_model AS chosen_model_b,
        a.rejected_model AS rejected_model_a,
        b.rejected_model AS rejected_model_b
    FROM pairs_a AS a
    FULL JOIN pairs_b AS b USING (pair_id)
)
SELECT
    policy,
    pair_id,
    prompt_id,
    CASE
        WHEN is_new THEN 'new'
        WHEN is_gone THEN 'gone'
        WHEN is_chosen_other OR is_rejected_other OR is_text_other OR is_prompt_other THEN 'changed'
        ELSE 'kept'
    END AS kind,
    CASE
        WHEN is_new THEN absent_from_a.reason
        WHEN is_gone THEN absent_from_b.reason
        WHEN is_swapped THEN 'swapped'
        WHEN is_chosen_other AND is_rejected_other THEN 'other_completions'
        WHEN is_chosen_other THEN 'other_chosen'
        WHEN is_rejected_other THEN 'other_rejected'
        WHEN is_text_other THEN 'other_text'
        WHEN is_prompt_other THEN 'other_prompt_text'
        WHEN is_reward_other THEN 'other_rewards'
        ELSE 'same'
    END AS reason,
    coalesce(is_chosen_other, false) AS is_chosen_other,
    chosen_model_a,
    chosen_model_b,
    rejected_model_a,
    rejected_model_b
FROM joined
LEFT JOIN absent_from_a USING (pair_id)
LEFT JOIN absent_from_b USING (pair_id)
