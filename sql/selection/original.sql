-- The pairs as the published models' training sets were made (swiss-ai/posttraining), where that differs from the
-- report's words (section 4.1.4). Chosen: drawn from all candidates of quantile 1, so that the best reference may
-- be chosen where others are above it; else from the highest quantile of the middle, else of the worst. Rejected:
-- drawn from the highest quantile of the worst, else of the middle, else of the rest. A further pair takes no
-- candidate twice: chosen is drawn from quantiles of at least 0.5, else from those below; rejected the other way
-- round. As for every strategy, the rejected one has a lower reward and another text, and no text is chosen twice
-- or rejected twice. Draws are functions of (seed, policy, completion).
WITH banded AS NOT MATERIALIZED (
    SELECT
        prompt, candidate, text, reward,
        CASE
            WHEN $pair_index > 0 THEN CASE WHEN quantile >= 0.5 THEN 2 ELSE 3 END
            ELSE greatest(band_rank, 2)
        END AS tier,
        -- Of quantile 1, and in further pairs, all are equally good.
        CASE WHEN $pair_index > 0 THEN 0.0 ELSE quantile END AS quantile
    FROM candidates
    ANTI JOIN (SELECT chosen AS candidate FROM taken UNION ALL SELECT rejected FROM taken) AS used USING (candidate)
),
unchosen AS NOT MATERIALIZED (
    FROM banded
    ANTI JOIN taken ON taken.prompt = banded.prompt AND taken.chosen_text = banded.text
),
unrejected AS NOT MATERIALIZED (
    FROM banded
    ANTI JOIN taken ON taken.prompt = banded.prompt AND taken.rejected_text = banded.text
),
-- May be chosen: what leaves something to reject, that is, another text with a lower reward. The lowest of a prompt
-- is that for all but those with the same text, few of which there are.
lowest AS MATERIALIZED (
    SELECT prompt, min(reward) AS lowest_reward, arg_min(text, reward) AS lowest_text FROM unrejected GROUP BY prompt
),
higher AS NOT MATERIALIZED (
    SELECT * FROM unchosen JOIN lowest USING (prompt) WHERE reward > lowest_reward
),
alike AS MATERIALIZED (
    SELECT * FROM higher WHERE text = lowest_text
),
choosable AS NOT MATERIALIZED (
    SELECT * FROM higher WHERE text <> lowest_text
    UNION ALL
    SELECT alike.*
    FROM alike
    SEMI JOIN (FROM unrejected SEMI JOIN alike USING (prompt)) AS lower
        ON lower.prompt = alike.prompt AND lower.reward < alike.reward AND lower.text <> alike.text
),
first AS (
    SELECT prompt, min({'tier': tier, 'quantile': -quantile}) AS place FROM choosable GROUP BY prompt
),
chosen AS MATERIALIZED (
    SELECT
        prompt,
        arg_min(
            {'candidate': candidate, 'reward': reward, 'text': text},
            sample_key($seed, 'chosen/' || $policy, candidate::VARCHAR)) AS one
    FROM choosable JOIN first USING (prompt)
    WHERE tier = place.tier AND -quantile = place.quantile
    GROUP BY prompt
),
below AS NOT MATERIALIZED (
    SELECT unrejected.*
    FROM unrejected
    JOIN chosen ON chosen.prompt = unrejected.prompt AND unrejected.reward < one.reward AND unrejected.text <> one.text
),
last AS (
    SELECT prompt, max({'tier': tier, 'quantile': quantile}) AS place FROM below GROUP BY prompt
),
drawn_below AS (
    SELECT prompt, arg_min(candidate, sample_key($seed, 'rejected/' || $policy, candidate::VARCHAR)) AS rejected
    FROM below JOIN last USING (prompt)
    WHERE tier = place.tier AND quantile = place.quantile
    GROUP BY prompt
)
SELECT one.candidate AS chosen, rejected FROM chosen JOIN drawn_below USING (prompt)
