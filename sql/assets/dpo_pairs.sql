-- The pair or pairs of each prompt for one policy (report, section 4.1.4; bands as the design words them).
-- Chosen: from the completions above every reference, else from quantile 1, else from the middle, else
-- the worst. Rejected: from the worst, else the middle, else the best. A chosen reward exceeds the
-- rejected one and their texts differ. Draws are functions of (seed, policy, completion).
-- A further pair is drawn like the first, but no text is chosen twice or rejected twice.
-- A prompt's candidates are a list: {row, text, reward, band from best (1) to worst (4)}. Ids and texts are
-- looked up for the few that may be drawn.
WITH RECURSIVE drawn AS (
    SELECT
        prompt_id,
        -1 AS pair_index,
        NULL::BIGINT AS chosen_row,
        NULL::BIGINT AS rejected_row,
        list({
            'row': rowid,
            'text': hash(text_hash),
            'reward': reward,
            'band': list_position(['above_all', 'best', 'middle', 'worst'], band)
        }) AS candidates,
        []::UBIGINT[] AS chosen_texts,
        []::UBIGINT[] AS rejected_texts
    FROM quantile_rewards
    WHERE policy = $policy AND ineligible_reason IS NULL AND n_references >= $selection_min_references
    GROUP BY prompt_id
    UNION ALL (
        WITH next AS NOT MATERIALIZED (
            SELECT
                *,
                list_filter(candidates, lambda one: NOT list_contains(rejected_texts, one.text)) AS rejectable
            FROM drawn
            WHERE pair_index + 1 < $selection_pairs_per_prompt
        ),
        -- A candidate has a lower one with another text if one of two is: the least, or the least with
        -- another text than that.
        with_least AS NOT MATERIALIZED (
            SELECT
                *,
                list_min(list_transform(rejectable, lambda one: {'reward': one.reward, 'text': one.text}))
                    AS least
            FROM next
        ),
        with_both AS NOT MATERIALIZED (
            SELECT
                *,
                list_min(list_transform(
                    list_filter(rejectable, lambda one: one.text <> least.text),
                    lambda one: {'reward': one.reward, 'text': one.text})) AS other
            FROM with_least
        ),
        choices AS NOT MATERIALIZED (
            SELECT
                prompt_id,
                list_filter(candidates, lambda one:
                    NOT list_contains(chosen_texts, one.text)
                    AND (coalesce(least.reward < one.reward AND least.text <> one.text, false)
                        OR coalesce(other.reward < one.reward AND other.text <> one.text, false))) AS choosable
            FROM with_both
        ),
        chosen AS (
            SELECT prompt_id, arg_min(one, draw($seed, 'chosen/' || $policy, completion_id)) AS chosen
            FROM (
                SELECT
                    prompt_id,
                    unnest(list_filter(choosable, lambda one: one.band = best)) AS one
                FROM (
                    SELECT *, list_min(list_transform(choosable, lambda one: one.band)) AS best FROM choices
                )
            ) AS may_be_drawn
            JOIN (SELECT rowid AS candidate_row, completion_id FROM quantile_rewards)
                ON candidate_row = one.row
            GROUP BY prompt_id
        ),
        rejected AS (
            SELECT prompt_id, arg_min(one, draw($seed, 'rejected/' || $policy, completion_id)) AS rejected
            FROM (
                SELECT
                    prompt_id,
                    unnest(list_filter(below, lambda one: one.band = worst)) AS one
                FROM (
                    SELECT *, list_max(list_transform(below, lambda one: one.band)) AS worst
                    FROM (
                        SELECT
                            prompt_id,
                            list_filter(rejectable, lambda one:
                                one.reward < chosen.reward AND one.text <> chosen.text) AS below
                        FROM next
                        JOIN chosen USING (prompt_id)
                    )
                )
            ) AS may_be_drawn
            JOIN (SELECT rowid AS candidate_row, completion_id FROM quantile_rewards)
                ON candidate_row = one.row
            GROUP BY prompt_id
        )
        SELECT
            prompt_id,
            pair_index + 1,
            chosen.row,
            rejected.row,
            candidates,
            list_append(chosen_texts, chosen.text),
            list_append(rejected_texts, rejected.text)
        FROM next
        JOIN chosen USING (prompt_id)
        JOIN rejected USING (prompt_id)
    )
),
-- By way of one list: DuckDB takes what a recursion gives for many rows, and would hold the big tables
-- in memory to look up these few in them.
selected AS (
    SELECT unnest(list([
        {'pair_index': pair_index, 'side': 'chosen', 'candidate_row': chosen_row},
        {'pair_index': pair_index, 'side': 'rejected', 'candidate_row': rejected_row}
    ]).flatten(), recursive := true)
    FROM drawn
    WHERE pair_index >= 0
),
-- Texts are read once, for both sides. One that was generated again since it was scored must not pass
-- under the old reward.
sides AS MATERIALIZED (
    SELECT
        scored.prompt_id,
        scored.pair_index,
        scored.side,
        completion_id,
        scored.track,
        scored.model,
        scored.variant,
        scored.reward,
        scored.quantile,
        scored.band,
        completions.completion_tokens AS tokens,
        [{'role': 'assistant', 'content': CASE WHEN completions.text_hash = scored.text_hash THEN completions.text
            ELSE error('completions[' || scored.model || '] changed since they were scored; '
                || 'materialize its rewards and what follows again') END}] AS messages
    FROM completions
    JOIN (
        SELECT selected.*, rated.* EXCLUDE (candidate_row)
        FROM selected
        JOIN (SELECT *, rowid AS candidate_row FROM quantile_rewards) AS rated USING (candidate_row)
    ) AS scored USING (completion_id)
),
reference_rewards AS (
    SELECT prompt_id, list_sort(list(reward)) AS reference_rewards
    FROM quantile_rewards
    WHERE policy = $policy AND model = $policy AND variant = 'reference' AND reward IS NOT NULL
    GROUP BY prompt_id
)
SELECT
    identify([$policy, chosen.prompt_id, chosen.pair_index::VARCHAR]) AS pair_id,
    $policy AS policy,
    chosen.prompt_id,
    chosen.track,
    chosen.pair_index::INTEGER AS pair_index,
    alignment_prompts.messages AS prompt,
    chosen.messages AS chosen,
    rejected.messages AS rejected,
    chosen.completion_id AS chosen_completion_id,
    rejected.completion_id AS rejected_completion_id,
    chosen.model AS chosen_model,
    rejected.model AS rejected_model,
    chosen.variant AS chosen_variant,
    rejected.variant AS rejected_variant,
    chosen.reward AS chosen_reward,
    rejected.reward AS rejected_reward,
    chosen.quantile AS chosen_quantile,
    rejected.quantile AS rejected_quantile,
    chosen.band AS chosen_band,
    rejected.band AS rejected_band,
    chosen.tokens AS chosen_tokens,
    rejected.tokens AS rejected_tokens,
    reference_rewards.reference_rewards
FROM sides AS chosen
JOIN sides AS rejected USING (prompt_id, pair_index)
JOIN reference_rewards USING (prompt_id)
JOIN alignment_prompts USING (prompt_id)
WHERE chosen.side = 'chosen' AND rejected.side = 'rejected'
