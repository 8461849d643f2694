-- The judge's final order of each controversial prompt's candidates for one policy (report, section
-- 4.1.4): the first by score are compared pairwise in both orders, a comparison is the mean of the two
-- orders' log-probabilities; they are ordered by wins, then by score; the others follow by score.
WITH placed AS (
    FROM controversial_candidates('rewards', 'alignment_prompts', $seed, $completions_models, $policy)
),
-- Each comparison from both sides.
sides AS (
    SELECT prompt_id, first_completion_id AS completion_id, second_completion_id AS opponent_id,
        first_logprob AS logprob, second_logprob AS opponent_logprob
    FROM judge_comparisons
    WHERE policy = $policy AND missing_reason IS NULL
    UNION ALL
    SELECT prompt_id, second_completion_id, first_completion_id, second_logprob, first_logprob
    FROM judge_comparisons
    WHERE policy = $policy AND missing_reason IS NULL
),
met AS (
    SELECT
        prompt_id, completion_id, opponent_id,
        (min(logprob) + max(logprob)) / 2 AS logprob,
        (min(opponent_logprob) + max(opponent_logprob)) / 2 AS opponent_logprob,
        count(*) AS orders
    FROM sides
    GROUP BY ALL
),
won AS (
    SELECT
        prompt_id,
        completion_id,
        sum(CASE WHEN logprob > opponent_logprob THEN 1.0 WHEN logprob = opponent_logprob THEN 0.5 ELSE 0.0 END)
            ::DOUBLE AS wins,
        list({'opponent_id': opponent_id, 'logprob': logprob, 'opponent_logprob': opponent_logprob,
            'orders': orders} ORDER BY opponent_id) AS comparisons
    FROM met
    GROUP BY ALL
),
ordered AS (
    SELECT
        placed.*,
        CASE WHEN score_position <= $rewards_compared_candidates THEN coalesce(wins, 0.0) END AS wins,
        comparisons,
        CASE WHEN score IS NOT NULL THEN row_number() OVER (
            PARTITION BY prompt_id
            ORDER BY
                score_position IS NULL,
                score_position > $rewards_compared_candidates,
                CASE WHEN score_position <= $rewards_compared_candidates THEN coalesce(wins, 0.0) END DESC,
                score_position)
        END AS position,
        count(score) OVER (PARTITION BY prompt_id) AS ranked
    FROM placed
    LEFT JOIN won USING (prompt_id, completion_id)
)
SELECT
    $policy AS policy,
    prompt_id,
    completion_id,
    score,
    score_position::INTEGER AS score_position,
    wins,
    comparisons,
    position::INTEGER AS position,
    CASE
        WHEN position <= $rewards_compared_candidates THEN ranked - position + 1
        WHEN position > $rewards_compared_candidates THEN
            ranked + 1 - avg(position) OVER (PARTITION BY prompt_id, position <= $rewards_compared_candidates, score)
    END::DOUBLE AS rank_reward
FROM ordered
