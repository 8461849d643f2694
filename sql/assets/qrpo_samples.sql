-- Each selected completion alone (report, section 4.1.4: QRPO), once, whichever pairs it is in.
WITH sides AS (
    SELECT
        prompt_id, track, prompt, pair_index, 'chosen' AS selected_as, chosen AS completion,
        chosen_completion_id AS completion_id, chosen_model AS model, chosen_variant AS variant,
        chosen_reward AS reward, chosen_quantile AS quantile, chosen_tokens AS completion_tokens,
        reference_rewards
    FROM dpo_pairs
    WHERE policy = $policy
    UNION ALL
    SELECT
        prompt_id, track, prompt, pair_index, 'rejected', rejected,
        rejected_completion_id, rejected_model, rejected_variant,
        rejected_reward, rejected_quantile, rejected_tokens, reference_rewards
    FROM dpo_pairs
    WHERE policy = $policy
)
SELECT identify([$policy, completion_id]) AS sample_id, $policy AS policy, * EXCLUDE (pair_index)
FROM sides
QUALIFY row_number() OVER (PARTITION BY completion_id ORDER BY pair_index, selected_as) = 1
ORDER BY prompt_id, selected_as, completion_id
