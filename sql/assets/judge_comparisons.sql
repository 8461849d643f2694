-- The judge's log-probabilities of A and B for each ordered pair of the first candidates; too small a mass of both
-- compares nothing.
WITH chosen_labels AS (
    SELECT
        requests.*,
        answers.finish_reason,
        answers.error,
        list_filter(answers.label_logprobs, lambda entry: entry.label = 'A')[1].logprob AS first_logprob,
        list_filter(answers.label_logprobs, lambda entry: entry.label = 'B')[1].logprob AS second_logprob
    FROM requests
    JOIN answers USING (request_id)
)
SELECT
    $policy AS policy,
    prompt_id,
    first_completion_id,
    second_completion_id,
    request_id,
    first_logprob,
    second_logprob,
    exp(first_logprob) + exp(second_logprob) AS mass,
    CASE
        WHEN first_logprob IS NULL OR second_logprob IS NULL THEN 'no comparison: ' || coalesce(error, finish_reason)
        WHEN exp(first_logprob) + exp(second_logprob) < $rewards_min_score_mass
            THEN 'no comparison: mass below rewards.min_score_mass'
    END AS missing_reason,
    $rewards_comparison_judge AS judge
FROM chosen_labels
