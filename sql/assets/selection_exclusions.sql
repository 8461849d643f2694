-- Every prompt that gave a policy no pair, and why.
WITH counted AS (
    SELECT
        prompt_id,
        track,
        max(n_references) AS n_references,
        count(*)::INTEGER AS n_candidates,
        count(*) FILTER (ineligible_reason IS NULL)::INTEGER AS n_eligible,
        count(DISTINCT reward) FILTER (ineligible_reason IS NULL) AS rewards
    FROM quantile_rewards
    WHERE policy = $policy
    GROUP BY ALL
)
SELECT
    $policy AS policy,
    prompt_id,
    track,
    CASE
        WHEN n_references < $selection_min_references THEN 'too_few_references'
        WHEN n_eligible < 2 THEN 'too_few_eligible'
        WHEN rewards < 2 THEN 'all_rewards_equal'
        ELSE 'all_texts_equal'
    END AS reason,
    n_references,
    n_candidates,
    n_eligible
FROM counted
WHERE prompt_id NOT IN (SELECT prompt_id FROM dpo_pairs WHERE policy = $policy)
ORDER BY prompt_id
