-- The widest pair: the highest reward against the lowest, whatever the bands; equal rewards fall to a draw.
-- The two texts differ. Draws are functions of (seed, policy, completion).
-- A further pair is drawn like the first, but no text is chosen twice or rejected twice.
WITH unchosen AS (
    SELECT prompt, candidate, text, reward
    FROM candidates
    ANTI JOIN taken ON taken.prompt = candidates.prompt AND taken.chosen_text = candidates.text
),
unrejected AS (
    SELECT prompt, candidate, text, reward
    FROM candidates
    ANTI JOIN taken ON taken.prompt = candidates.prompt AND taken.rejected_text = candidates.text
),
-- May be chosen: what leaves something to reject.
choosable AS (
    SELECT unchosen.*
    FROM unchosen
    SEMI JOIN (SELECT prompt, text, min(reward) AS reward FROM unrejected GROUP BY prompt, text) AS lower
        ON lower.prompt = unchosen.prompt AND lower.reward < unchosen.reward AND lower.text <> unchosen.text
),
highest AS (
    SELECT prompt, max(reward) AS reward FROM choosable GROUP BY prompt
),
chosen AS (
    SELECT arg_min(candidate, sample_key($seed, 'chosen/' || $policy, sha256(named_by))) AS candidate
    FROM (FROM choosable SEMI JOIN highest USING (prompt, reward))
    JOIN (SELECT candidate, named_by FROM candidates) USING (candidate)
    GROUP BY prompt
),
below AS (
    SELECT unrejected.*, chosen.candidate AS chosen
    FROM choosable AS chosen
    SEMI JOIN chosen AS drawn USING (candidate)
    JOIN unrejected
        ON unrejected.prompt = chosen.prompt AND unrejected.reward < chosen.reward AND unrejected.text <> chosen.text
),
lowest AS (
    SELECT prompt, min(reward) AS reward FROM below GROUP BY prompt
)
SELECT chosen, arg_min(candidate, sample_key($seed, 'rejected/' || $policy, sha256(named_by))) AS rejected
FROM (FROM below SEMI JOIN lowest USING (prompt, reward))
JOIN (SELECT candidate, named_by FROM candidates) USING (candidate)
GROUP BY chosen
