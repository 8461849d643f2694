-- How far can the scorer of each track be trusted? Ladders are answers that were made worse step by step; an order that
-- is recovered whole is 1, none is 0. The columns low and high are the interval of 95%; docs/instruments.md explains
-- each measure.
-- Page: judge_calibration
WITH bounded AS (
    SELECT
        *,
        $calibration_at_least[measure] AS at_least,
        $calibration_at_most[measure] AS at_most,
        -- A bias has two sides.
        CASE WHEN measure IN ('position_bias', 'length_correlation', 'length_slope', 'own_family')
            THEN abs(value) ELSE value END AS size
    FROM judge_calibration
)
SELECT
    measure || CASE about WHEN 'all' THEN '' ELSE ' (' || about || ')' END AS measure,
    scorer,
    prompts,
    round(value, 4) AS value,
    round(low, 4) AS low,
    round(high, 4) AS high,
    at_least,
    at_most,
    coalesce(size >= at_least, true) AND coalesce(size <= at_most, true) AS holds
FROM bounded
ORDER BY scorer, measure
