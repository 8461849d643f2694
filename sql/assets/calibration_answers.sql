-- What a scorer says of ladders, what the judge of comparisons says of their rungs in pairs, and what the controversial
-- track's judge says of standard answers. Scores are made as those of rewards, too small a mass as there.
WITH said AS (
    SELECT
        requests.*,
        answers.finish_reason,
        answers.error,
        answers.value AS logit,
        list_sum(list_transform(answers.label_logprobs, lambda entry: exp(entry.logprob))) AS mass,
        list_sum(list_transform(
            answers.label_logprobs, lambda entry: try_cast(entry.label AS DOUBLE) * exp(entry.logprob))) AS weighted,
        list_filter(answers.label_logprobs, lambda entry: entry.label = 'A')[1].logprob AS first_logprob,
        list_filter(answers.label_logprobs, lambda entry: entry.label = 'B')[1].logprob AS second_logprob
    FROM requests
    JOIN answers USING (request_id)
),
valued AS (
    SELECT
        *,
        CASE
            WHEN logit IS NOT NULL THEN logit
            WHEN mass < $rewards_min_score_mass THEN NULL
            WHEN asked_as = 'comparison' THEN first_logprob - second_logprob
            ELSE weighted / nullif(mass, 0)
        END AS value
    FROM said
)
SELECT
    $scorer AS scorer,
    asked_as,
    coalesce(one.prompt_id, completions.prompt_id) AS prompt_id,
    valued.completion_id,
    one.step,
    valued.second_completion_id,
    other.step AS second_step,
    valued.request_id,
    valued.model_fingerprint,
    CASE WHEN isfinite(value) THEN value END AS value,
    mass,
    CASE
        WHEN isfinite(value) THEN NULL
        WHEN mass < $rewards_min_score_mass THEN 'no score: mass below rewards.min_score_mass'
        ELSE 'no score: ' || coalesce(valued.error, valued.finish_reason)
    END AS missing_reason
FROM valued
LEFT JOIN (FROM degraded_answers WHERE scorer = $scorer) AS one ON one.rung_id = valued.completion_id
LEFT JOIN (FROM degraded_answers WHERE scorer = $scorer) AS other ON other.rung_id = valued.second_completion_id
LEFT JOIN completions ON completions.completion_id = valued.completion_id
ORDER BY asked_as, prompt_id, step, second_step, valued.completion_id
