-- The pairs as the published models' training sets were made (swiss-ai/posttraining), where that differs from the
-- report's words (section 4.1.4). Chosen: drawn from all candidates of quantile 1, so that the best reference may
-- be chosen where others are above it; else from the highest quantile of the middle, else of the worst. Rejected:
-- drawn from the highest quantile of the worst, else of the middle, else of the rest. A further pair takes no
-- candidate twice: chosen is drawn from quantiles of at least 0.5, else from those below; rejected the other way
-- round. As for every strategy, the rejected one has a lower reward and another text, and no text is chosen twice
-- or rejected twice. Draws are functions of (seed, policy, completion).
WITH banded AS (
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
unchosen AS (
    SELECT banded.*
    FROM banded
    ANTI JOIN taken ON taken.prompt = banded.prompt AND taken.chosen_text = banded.text
),
unrejected AS (
    SELECT banded.*
    FROM banded
    ANTI JOIN taken ON taken.prompt = banded.prompt AND taken.rejected_text = banded.text
),
-- May be chosen: what leaves something to reject.
choosable AS (
    SELECT unchosen.*
    FROM unchosen
    SEMI JOIN (SELECT prompt, text, min(reward) AS reward FROM unrejected GROUP BY prompt, text) AS lower
        ON lower.prompt = unchosen.prompt AND lower.reward < unchosen.reward AND lower.text <> unchosen.text
),
first AS (
    SELECT prompt, min({'tier': tier, 'quantile': -quantile}) AS place FROM choosable GROUP BY prompt
),
chosen AS (
    SELECT arg_min(candidate, sample_key($seed, 'chosen/' || $policy, sha256(named_by))) AS candidate
    FROM choosable
    JOIN first USING (prompt)
    JOIN (SELECT candidate, named_by FROM candidates) USING (candidate)
    WHERE tier = place.tier AND -quantile = place.quantile
    GROUP BY prompt
),
below AS (
    SELECT unrejected.*, chosen.candidate AS chosen
    FROM choosable AS chosen
    SEMI JOIN chosen AS drawn USING (candidate)
    JOIN unrejected
        ON unrejected.prompt = chosen.prompt AND unrejected.reward < chosen.reward AND unrejected.text <> chosen.text
),
last AS (
    SELECT chosen, max({'tier': tier, 'quantile': quantile}) AS place FROM below GROUP BY chosen
)
SELECT chosen, arg_min(candidate, sample_key($seed, 'rejected/' || $policy, sha256(named_by))) AS rejected
FROM below
JOIN last USING (chosen)
JOIN (SELECT candidate, named_by FROM candidates) USING (candidate)
WHERE tier = place.tier AND quantile = place.quantile
GROUP BY chosen
