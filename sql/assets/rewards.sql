-- One reward for each completion of one model: the logit, or the probability-weighted mean of the
-- labels that were weighed, renormalized over them; none where their mass is too small. A completion without a
-- score keeps its row and the reason.
WITH rated AS (
    SELECT
        requests.completion_id,
        requests.request_id,
        requests.model_fingerprint,
        answers.finish_reason,
        answers.error,
        answers.value,
        answers.label_logprobs,
        list_sum(list_transform(answers.label_logprobs, lambda entry: exp(entry.logprob))) AS mass,
        list_sum(list_transform(
            answers.label_logprobs, lambda entry: entry.label::DOUBLE * exp(entry.logprob))) AS weighted
    FROM requests
    JOIN answers USING (request_id)
),
scored AS (
    SELECT *, coalesce(value, CASE WHEN mass >= $rewards_min_score_mass THEN weighted / nullif(mass, 0) END) AS score
    FROM rated
)
SELECT
    completions.completion_id,
    scored.request_id,
    completions.prompt_id,
    completion_requests.track,
    completions.model,
    completions.variant,
    completions.sample_index,
    CASE WHEN isfinite(score) THEN score END AS reward,
    CASE
        WHEN isfinite(score) THEN NULL
        WHEN completions.text_hash IS NULL THEN 'no completion: ' || completions.finish_reason
        WHEN mass < $rewards_min_score_mass THEN 'no score: mass below rewards.min_score_mass'
        ELSE 'no score: ' || coalesce(scored.error, scored.finish_reason, 'unanswered')
    END AS missing_reason,
    CASE completion_requests.track
        WHEN 'standard' THEN $rewards_standard_model
        ELSE $rewards_controversial_model
    END AS scorer,
    scored.model_fingerprint AS scorer_fingerprint,
    CASE completion_requests.track
        WHEN 'standard' THEN $rewards_standard_task
        ELSE $rewards_controversial_task
    END AS task,
    scored.mass AS score_mass,
    scored.label_logprobs
FROM completions
JOIN completion_requests USING (completion_id)
LEFT JOIN scored USING (completion_id)
WHERE completions.model = $model
-- Ids of prompts that stand one after the other take a fraction of the room.
ORDER BY completions.prompt_id
