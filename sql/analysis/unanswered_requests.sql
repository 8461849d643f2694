-- For each model and policy: what is asked of it, what of that is answered and rewarded, and how many
-- prompts it has not been asked about. Answers to questions that are no longer asked do not count.
WITH asked AS (
    SELECT
        completion_requests.model,
        count(*) AS requested,
        count(completions.completion_id) AS completed,
        count(rewards.completion_id) AS rewarded,
        count(DISTINCT completion_requests.prompt_id) AS prompts
    FROM completion_requests
    LEFT JOIN completions USING (completion_id, request_id)
    LEFT JOIN rewards ON rewards.completion_id = completions.completion_id
    GROUP BY completion_requests.model
)
SELECT
    model,
    coalesce(requested, 0) AS requested,
    coalesce(completed, 0) AS completed,
    coalesce(rewarded, 0) AS rewarded,
    (SELECT count(*) FROM alignment_prompts) - coalesce(prompts, 0) AS prompts_not_asked
FROM (SELECT unnest($completions_models || $completions_policies) AS model)
LEFT JOIN asked USING (model)
ORDER BY model
