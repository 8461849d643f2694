-- Each selected completion alone (report, section 4.1.4: QRPO), once, whichever pairs it is in.
WITH sides AS NOT MATERIALIZED (
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
),
first_time AS (
    SELECT completion_id, min({'pair_index': pair_index, 'selected_as': selected_as}) AS place
    FROM sides
    GROUP BY completion_id
)
SELECT
    as_id(content_hash([$policy, completion_id::VARCHAR])) AS sample_id,
    $policy AS policy,
    * EXCLUDE (pair_index, place)
FROM sides
JOIN first_time USING (completion_id)
WHERE pair_index = place.pair_index AND selected_as = place.selected_as
