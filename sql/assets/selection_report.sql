-- What each strategy makes of the same rewards. `asked` has the strategies and seeds, `reported` the pairs that each
-- has drawn, `earlier` this table's rows until now. Sums of fractions are of decimals, so that the order of rows has
-- no part in them.
WITH known AS (
    SELECT
        quantile_rewards.completion_id,
        quantile_rewards.prompt_id,
        track,
        model || ' ' || variant AS answered_by,
        reward,
        quantile,
        band,
        completion_tokens
    FROM quantile_rewards
    LEFT JOIN (FROM policy_tokens WHERE policy = $policy) AS counted USING (completion_id)
    WHERE quantile_rewards.policy = $policy
        AND quantile_rewards.completion_id IN (SELECT chosen FROM reported UNION SELECT rejected FROM reported)
),
pairs AS MATERIALIZED (
    SELECT
        strategy,
        seed,
        strategy || CASE WHEN seed = $seed THEN '' ELSE ', seed ' || seed END AS draw,
        chosen,
        rejected,
        one.track,
        coalesce(language, 'und') AS prompt_language,
        one.answered_by AS chosen_by,
        other.answered_by AS rejected_by,
        one.band AS chosen_band,
        other.band AS rejected_band,
        (one.reward - other.reward)::DECIMAL(38, 12) AS margin,
        (one.quantile - other.quantile)::DECIMAL(38, 12) AS quantile_margin,
        one.completion_tokens AS chosen_tokens,
        other.completion_tokens AS rejected_tokens
    FROM reported
    JOIN known AS one ON one.completion_id = chosen
    JOIN known AS other ON other.completion_id = rejected
    JOIN alignment_prompts ON alignment_prompts.prompt_id = one.prompt_id
),
draws AS MATERIALIZED (
    SELECT strategy, seed, draw, count(*) AS pairs FROM pairs GROUP BY ALL
),
told_apart AS (
    SELECT draw, 'chosen' AS measure, chosen_by AS about, count(*) AS number FROM pairs GROUP BY ALL
    UNION ALL
    SELECT draw, 'rejected', rejected_by, count(*) FROM pairs GROUP BY ALL
    UNION ALL
    SELECT draw, 'chosen_band', chosen_band, count(*) FROM pairs GROUP BY ALL
    UNION ALL
    SELECT draw, 'rejected_band', rejected_band, count(*) FROM pairs GROUP BY ALL
    UNION ALL
    SELECT draw, 'language', prompt_language, count(*) FROM pairs GROUP BY ALL
),
means AS (
    SELECT
        draw,
        coalesce(track, 'all') AS about,
        count(*)::DOUBLE AS pairs,
        -- Rewards of two tracks are of two kinds.
        CASE WHEN track IS NOT NULL THEN sum(margin)::DOUBLE / count(*) END AS margin,
        sum(quantile_margin)::DOUBLE / count(*) AS quantile_margin,
        sum(chosen_tokens)::DOUBLE / count(chosen_tokens) AS chosen_tokens,
        sum(rejected_tokens)::DOUBLE / count(rejected_tokens) AS rejected_tokens,
        count(*) FILTER (chosen_tokens > rejected_tokens) / count(*) AS chosen_longer,
        count(*) FILTER (chosen_tokens < rejected_tokens) / count(*) AS rejected_longer
    FROM pairs
    GROUP BY GROUPING SETS ((draw, track), (draw))
),
shared AS (
    SELECT one.draw, other.draw AS about, 'same_pairs' AS measure, count(*) AS number
    FROM pairs AS one
    JOIN pairs AS other ON other.chosen = one.chosen AND other.rejected = one.rejected AND other.draw <> one.draw
    GROUP BY ALL
    UNION ALL
    SELECT one.draw, other.draw, 'same_chosen', count(*)
    FROM pairs AS one
    JOIN pairs AS other ON other.chosen = one.chosen AND other.draw <> one.draw
    GROUP BY ALL
    UNION ALL
    SELECT one.draw, other.draw, 'same_rejected', count(*)
    FROM pairs AS one
    JOIN pairs AS other ON other.rejected = one.rejected AND other.draw <> one.draw
    GROUP BY ALL
),
-- Of each place among a prompt's references, how many have it: one each, but where rewards are equal.
places AS (
    SELECT track, n_references AS n, round(quantile * n_references)::BIGINT AS place, count(*) AS number
    FROM quantile_rewards
    WHERE policy = $policy
        AND model = $policy
        AND variant = 'reference'
        AND quantile IS NOT NULL
        AND ($selection_references = 'all' OR ineligible_reason IS NULL)
    GROUP BY ALL
),
distances AS (
    SELECT
        places.track,
        points.n,
        points.place,
        abs(coalesce(sum(number) FILTER (places.place * points.n <= points.place * places.n), 0)
            - sum(number * ((points.place * places.n) // points.n) / places.n)) / sum(number) AS distance
    FROM places
    -- At each place that is there or would be, were they even.
    JOIN (SELECT DISTINCT track, n, unnest(range(1, n + 1)) AS place FROM places) AS points USING (track)
    GROUP BY ALL
),
measured AS (
    SELECT strategy, seed, measure, about, number / pairs AS value
    FROM told_apart
    JOIN draws USING (draw)
    UNION ALL
    SELECT strategy, seed, measure, about, value
    FROM (UNPIVOT means ON COLUMNS(* EXCLUDE (draw, about)) INTO NAME measure VALUE value)
    JOIN draws USING (draw)
    UNION ALL
    SELECT
        one.strategy,
        one.seed,
        measures.measure,
        other.draw,
        coalesce(number, 0) / CASE measures.measure
            WHEN 'same_pairs' THEN one.pairs + other.pairs - coalesce(number, 0) ELSE one.pairs END
    FROM draws AS one
    JOIN draws AS other ON other.draw <> one.draw
    CROSS JOIN (SELECT unnest(['same_pairs', 'same_chosen', 'same_rejected']) AS measure) AS measures
    LEFT JOIN shared
        ON shared.draw = one.draw AND shared.about = other.draw AND shared.measure = measures.measure
    UNION ALL
    SELECT strategy, seed, 'pairs', 'all', 0
    FROM asked
    ANTI JOIN draws USING (strategy, seed)
    UNION ALL
    SELECT NULL, NULL, 'reference_distance', track, round(max(distance), 12)
    FROM distances
    GROUP BY track
)
SELECT
    $policy AS policy,
    measured.*,
    CASE WHEN earlier.value = measured.value THEN earlier.previous_value ELSE earlier.value END AS previous_value
FROM measured
LEFT JOIN earlier
    ON earlier.strategy IS NOT DISTINCT FROM measured.strategy
    AND earlier.seed IS NOT DISTINCT FROM measured.seed
    AND earlier.measure = measured.measure
    AND earlier.about IS NOT DISTINCT FROM measured.about
ORDER BY measured.strategy, measured.seed, measured.measure, measured.about
