-- What is a policy's training set made of? Its pairs by the collection that the prompt comes from.
-- Page: dpo_pairs
SELECT
    policy,
    dpo_pairs.track,
    dataset,
    source,
    count(*) AS pairs,
    round(count(*) / sum(count(*)) OVER (PARTITION BY policy), 4) AS share_of_policy
FROM dpo_pairs
JOIN alignment_prompts USING (prompt_id)
GROUP BY policy, dpo_pairs.track, dataset, source
ORDER BY policy, dpo_pairs.track, pairs DESC, dataset, source NULLS LAST
