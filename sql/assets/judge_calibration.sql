-- How far a scorer can be trusted: each measure is a mean over prompts of what it is on a prompt, with the interval of
-- 95% that prompts give it (that of a slope is least squares').
WITH drawn AS (
    SELECT prompt_id
    FROM alignment_prompts
    WHERE track = $scorer
    ORDER BY sample_key($seed, 'calibration', prompt_hash), prompt_id
    LIMIT $calibration_prompts
),
-- What is ordered within a prompt: `truth` grows with what is better, `found` is what the scorer says.
ordered AS (
    SELECT 'ladder' AS order_name, prompt_id, -step AS truth, round(value, 9) AS found
    FROM calibration_answers
    WHERE scorer = $scorer AND asked_as = 'score' AND value IS NOT NULL
    UNION ALL
    -- A rung's place by comparisons: the log-odds that it has against all others, in both orders.
    SELECT 'pairwise', prompt_id, -step, round(sum(value::DECIMAL(38, 9))::DOUBLE, 9)
    FROM (
        SELECT prompt_id, step, value
        FROM calibration_answers
        WHERE scorer = $scorer AND asked_as = 'comparison'
        UNION ALL
        SELECT prompt_id, second_step, -value
        FROM calibration_answers
        WHERE scorer = $scorer AND asked_as = 'comparison'
    )
    WHERE value IS NOT NULL
    GROUP BY prompt_id, step
    UNION ALL
    -- The length of completions, which no order is expected of.
    SELECT 'length', prompt_id, length(completions.text), round(reward, 9)
    FROM rewards
    JOIN completions USING (prompt_id, completion_id)
    SEMI JOIN drawn USING (prompt_id)
    WHERE reward IS NOT NULL AND list_contains($completions_models, rewards.model)
    UNION ALL
    SELECT 'agreement', prompt_id, round(reward, 9), round(value, 9)
    FROM calibration_answers
    JOIN rewards USING (prompt_id, completion_id)
    WHERE calibration_answers.scorer = $scorer
        AND asked_as = 'standard'
        AND reward IS NOT NULL
        AND value IS NOT NULL
),
ranked AS (
    SELECT
        *,
        rank() OVER by_truth + (count(*) OVER same_truth - 1) / 2 AS truth_rank,
        rank() OVER by_found + (count(*) OVER same_found - 1) / 2 AS found_rank
    FROM ordered
    WINDOW
        by_truth AS (PARTITION BY order_name, prompt_id ORDER BY truth),
        same_truth AS (PARTITION BY order_name, prompt_id, truth),
        by_found AS (PARTITION BY order_name, prompt_id ORDER BY found),
        same_found AS (PARTITION BY order_name, prompt_id, found)
),
-- One that gives all the same recovers no order: 0.
spearman AS (
    SELECT
        order_name,
        prompt_id,
        CASE WHEN count(DISTINCT found) > 1 THEN corr(truth_rank, found_rank) ELSE 0 END AS x
    FROM ranked
    GROUP BY order_name, prompt_id
    HAVING count(*) > 2 AND count(DISTINCT truth) > 1
),
paired AS (
    SELECT
        one.order_name,
        one.prompt_id,
        sign(one.truth - other.truth) AS by_truth,
        sign(one.found - other.found) AS by_found
    FROM ranked AS one
    JOIN ranked AS other
        ON other.order_name = one.order_name
        AND other.prompt_id = one.prompt_id
        AND (other.truth_rank, other.found_rank) < (one.truth_rank, one.found_rank)
),
-- Kendall's tau-b. Pairs that are equal in both respects are in none of its terms.
kendall AS (
    SELECT
        order_name,
        prompt_id,
        coalesce(sum(by_truth * by_found) / nullif(sqrt(sum(abs(by_truth)) * sum(abs(by_found))), 0), 0) AS x
    FROM paired
    SEMI JOIN spearman USING (order_name, prompt_id)
    GROUP BY order_name, prompt_id
),
scored AS (
    SELECT prompt_id, step, step_name, completion_id, source_id, value, mass, text
    FROM calibration_answers
    JOIN (
        SELECT scorer, rung_id AS completion_id, step_name, completion_id AS source_id, text
        FROM degraded_answers
    ) AS rungs USING (scorer, completion_id)
    WHERE scorer = $scorer AND asked_as = 'score'
),
compared AS (
    SELECT
        one.prompt_id,
        one.value AS in_order,
        other.value AS reversed,
        (one.value > 0)::INTEGER + (other.value > 0)::INTEGER AS first_wins,
        (one.value < 0)::INTEGER + (other.value < 0)::INTEGER AS second_wins
    FROM calibration_answers AS one
    JOIN calibration_answers AS other
        ON other.scorer = one.scorer
        AND other.asked_as = 'comparison'
        AND other.completion_id = one.second_completion_id
        AND other.second_completion_id = one.completion_id
    WHERE one.scorer = $scorer
        AND one.asked_as = 'comparison'
        AND one.step < one.second_step
        AND one.value IS NOT NULL
        AND other.value IS NOT NULL
),
-- Scores of completions in units of their spread, by whether the judge is of the answering model's family.
standardized AS (
    SELECT
        kind,
        prompt_id,
        (score - avg(score) OVER (PARTITION BY kind)) / nullif(stddev_pop(score) OVER (PARTITION BY kind), 0) AS z,
        $models_family[model] = $models_family[CASE $scorer
            WHEN 'standard' THEN $rewards_standard_model
            ELSE $rewards_controversial_model
        END] AS is_kin
    FROM (
        SELECT 'own_family' AS kind, prompt_id, model, reward AS score
        FROM rewards
        SEMI JOIN drawn USING (prompt_id)
        WHERE reward IS NOT NULL AND list_contains($completions_models, model)
        UNION ALL
        SELECT 'by the judge', prompt_id, model, value
        FROM calibration_answers
        JOIN rewards USING (prompt_id, completion_id)
        WHERE calibration_answers.scorer = $scorer
            AND asked_as = 'standard'
            AND value IS NOT NULL
            AND reward IS NOT NULL
        UNION ALL
        SELECT 'by the reward model', prompt_id, model, reward
        FROM calibration_answers
        JOIN rewards USING (prompt_id, completion_id)
        WHERE calibration_answers.scorer = $scorer
            AND asked_as = 'standard'
            AND value IS NOT NULL
            AND reward IS NOT NULL
    )
),
kinship AS (
    SELECT kind, prompt_id, avg(z) FILTER (is_kin) - avg(z) FILTER (NOT is_kin) AS x
    FROM standardized
    GROUP BY kind, prompt_id
),
on_prompts AS (
    SELECT
        CASE order_name
            WHEN 'ladder' THEN 'ladder_spearman'
            WHEN 'pairwise' THEN 'pairwise_spearman'
            WHEN 'length' THEN 'length_correlation'
            ELSE 'agreement_spearman'
        END AS measure,
        'all' AS about,
        prompt_id,
        x
    FROM spearman
    UNION ALL
    SELECT
        CASE order_name
            WHEN 'ladder' THEN 'ladder_kendall'
            WHEN 'pairwise' THEN 'pairwise_kendall'
            ELSE 'agreement_kendall'
        END,
        'all',
        prompt_id,
        x
    FROM kendall
    WHERE order_name <> 'length'
    UNION ALL
    -- Whether a step is seen to be worse than the one before; as good counts half.
    SELECT 'step_seen', worse.step_name, worse.prompt_id, (1 + sign(better.value - worse.value)) / 2
    FROM scored AS worse
    JOIN scored AS better ON better.prompt_id = worse.prompt_id AND better.step = worse.step - 1
    WHERE better.value IS NOT NULL AND worse.value IS NOT NULL
    UNION ALL
    SELECT 'ties', 'all', one.prompt_id, avg((one.value = other.value)::INTEGER)
    FROM scored AS one
    JOIN scored AS other ON other.prompt_id = one.prompt_id AND other.step > one.step
    WHERE one.value IS NOT NULL AND other.value IS NOT NULL
    GROUP BY one.prompt_id
    UNION ALL
    SELECT 'label_mass', 'scores', prompt_id, avg(mass)
    FROM scored
    WHERE mass IS NOT NULL
    GROUP BY prompt_id
    UNION ALL
    SELECT 'label_mass', 'comparisons', prompt_id, avg(mass)
    FROM calibration_answers
    WHERE scorer = $scorer AND asked_as = 'comparison' AND mass IS NOT NULL
    GROUP BY prompt_id
    UNION ALL
    SELECT 'position_bias', 'all', prompt_id, avg((in_order + reversed) / 2)
    FROM compared
    GROUP BY prompt_id
    UNION ALL
    SELECT 'first_preferred', 'all', prompt_id, sum(first_wins) / nullif(sum(first_wins + second_wins), 0)
    FROM compared
    GROUP BY prompt_id
    UNION ALL
    SELECT 'flips', 'all', prompt_id, avg((first_wins = 2 OR second_wins = 2)::INTEGER)
    FROM compared
    GROUP BY prompt_id
    UNION ALL
    SELECT 'retest', 'all', prompt_id, abs(value - reward)
    FROM scored
    JOIN (SELECT prompt_id, completion_id AS source_id, reward FROM rewards) AS rewarded USING (prompt_id, source_id)
    WHERE step = 0 AND value IS NOT NULL AND reward IS NOT NULL
    UNION ALL
    SELECT 'own_family', 'all', prompt_id, x
    FROM kinship
    WHERE kind = 'own_family' AND x IS NOT NULL
    UNION ALL
    -- What is better by the reward model, too, is no favour.
    SELECT 'own_family', 'beyond the reward model', prompt_id, one.x - other.x
    FROM (FROM kinship WHERE kind = 'by the judge') AS one
    JOIN (FROM kinship WHERE kind = 'by the reward model') AS other USING (prompt_id)
    WHERE one.x IS NOT NULL AND other.x IS NOT NULL
),
-- Sums of exact numbers do not depend on the order of rows.
summed AS (
    SELECT
        measure,
        about,
        count(x) AS prompts,
        sum(round(x, 9)::DECIMAL(38, 9))::DOUBLE AS total,
        sum((round(x, 9) * round(x, 9))::DECIMAL(38, 18))::DOUBLE AS squares
    FROM on_prompts
    WHERE x IS NOT NULL
    GROUP BY measure, about
),
-- Least squares of the score on the length of a rung in 100 characters, within prompts and within steps, on ladders
-- whose every rung has a score.
whole AS (
    SELECT prompt_id, step, value AS score, length(text) / 100 AS size
    FROM scored
    QUALIFY count(value) OVER (PARTITION BY prompt_id)
        = (SELECT count(*) + 1 FROM wordings WHERE kind = 'degradation')
),
centred AS (
    SELECT
        score - avg(score) OVER (PARTITION BY prompt_id) - avg(score) OVER (PARTITION BY step)
            + avg(score) OVER () AS score,
        size - avg(size) OVER (PARTITION BY prompt_id) - avg(size) OVER (PARTITION BY step) + avg(size) OVER () AS size
    FROM whole
),
fitted AS (
    SELECT
        prompts,
        sum(round(size * score, 9)::DECIMAL(38, 9))::DOUBLE
            / nullif(sum(round(size * size, 9)::DECIMAL(38, 9))::DOUBLE, 0) AS slope,
        sum(round(size * size, 9)::DECIMAL(38, 9))::DOUBLE AS sizes,
        sum(round(score * score, 9)::DECIMAL(38, 9))::DOUBLE AS scores,
        1.959963984540054 * sqrt(
            greatest(0, scores - slope * slope * sizes)
            / nullif((prompts - 1) * (steps - 1) - 1, 0) / nullif(sizes, 0)) AS half
    FROM centred
    CROSS JOIN (SELECT count(DISTINCT prompt_id) AS prompts, count(DISTINCT step) AS steps FROM whole)
    GROUP BY prompts, steps
),
measured AS (
    SELECT
        measure,
        about,
        prompts,
        total / prompts AS value,
        CASE WHEN prompts > 1 THEN 1.959963984540054 * sqrt(
            greatest(0, squares - total * total / prompts) / (prompts - 1) / prompts) END AS half
    FROM summed
    UNION ALL
    SELECT 'length_slope', 'all', prompts, slope, half
    FROM fitted
    WHERE prompts > 1 AND slope IS NOT NULL
)
SELECT
    $scorer AS scorer,
    measure,
    about,
    prompts,
    round(value, 9) + 0 AS value,
    round(value - half, 9) + 0 AS low,
    round(value + half, 9) + 0 AS high
FROM measured
ORDER BY measure, about
