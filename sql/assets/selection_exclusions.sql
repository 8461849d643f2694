-- Every prompt that gave a policy no pair, and why.
WITH counted AS (
    SELECT
        prompt_id,
        track,
        max(n_references) AS n_references,
        count(*)::INTEGER AS n_candidates,
        count(*) FILTER (ineligible_reason IS NULL)::INTEGER AS n_eligible,
        count(DISTINCT reward) FILTER (ineligible_reason IS NULL) AS rewards,
        count(DISTINCT normal_hash) FILTER (ineligible_reason IS NULL) AS texts
    FROM quantile_rewards
    ANTI JOIN (FROM selected_pairs WHERE policy = $policy) USING (prompt_id)
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
        WHEN texts < 2 THEN 'all_texts_equal'
        ELSE 'not_selected'
    END AS reason,
    n_references,
    n_candidates,
    n_eligible
FROM counted
ORDER BY prompt_id
