-- Does the judge prefer the reply that it is shown first? Without such a bias, first_share is 0.5.
-- A pair is flipped where the order decides: the same place wins both times, so verdicts differ.
-- Page: judge_comparisons
WITH verdicts AS (
    SELECT
        *,
        CASE
            WHEN first_logprob > second_logprob THEN 'first'
            WHEN first_logprob < second_logprob THEN 'second'
            WHEN missing_reason IS NULL THEN 'neither'
        END AS preferred
    FROM judge_comparisons
),
single AS (
    SELECT
        policy,
        judge,
        count(*) AS comparisons,
        count(preferred) AS answered,
        count(*) FILTER (preferred = 'first') AS first_preferred,
        avg(1 / (1 + exp(second_logprob - first_logprob))) AS first_probability
    FROM verdicts
    GROUP BY policy, judge
),
both_orders AS (
    SELECT
        one.policy,
        one.judge,
        count(*) AS pairs,
        count(*) FILTER (one.preferred = 'first' AND other.preferred = 'first') AS always_first,
        count(*) FILTER (one.preferred = 'second' AND other.preferred = 'second') AS always_second
    FROM verdicts AS one
    JOIN verdicts AS other
        ON other.policy = one.policy
        AND other.judge = one.judge
        AND other.first_completion_id = one.second_completion_id
        AND other.second_completion_id = one.first_completion_id
    WHERE one.first_completion_id < one.second_completion_id
        AND one.preferred IS NOT NULL
        AND other.preferred IS NOT NULL
    GROUP BY one.policy, one.judge
)
SELECT
    policy,
    judge,
    comparisons,
    answered,
    round(first_preferred / nullif(answered, 0), 4) AS first_share,
    round(first_probability, 4) AS mean_first_probability,
    coalesce(pairs, 0) AS pairs,
    coalesce(always_first, 0) AS always_first,
    coalesce(always_second, 0) AS always_second,
    round((always_first + always_second) / nullif(pairs, 0), 4) AS flipped_share
FROM single
LEFT JOIN both_orders USING (policy, judge)
ORDER BY policy, judge
