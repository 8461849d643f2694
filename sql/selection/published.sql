-- The published rule (report, section 4.1.4; bands as the design words them). Chosen: drawn from the
-- candidates above every reference, else from quantile 1, else from the middle, else from the worst.
-- Rejected: drawn from the worst, else from the middle, else from the best. The rejected one has a lower
-- reward and another text. Draws are functions of (seed, policy, completion).
-- A further pair is drawn like the first, but no text is chosen twice or rejected twice.
WITH unchosen AS (
    SELECT prompt, candidate, text, reward, band_rank
    FROM candidates
    ANTI JOIN taken ON taken.prompt = candidates.prompt AND taken.chosen_text = candidates.text
),
unrejected AS (
    SELECT prompt, candidate, text, reward, band_rank
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
best AS (
    SELECT prompt, min(band_rank) AS band_rank FROM choosable GROUP BY prompt
),
chosen AS (
    SELECT arg_min(candidate, sample_key($seed, 'chosen/' || $policy, sha256(named_by))) AS candidate
    FROM (FROM choosable SEMI JOIN best USING (prompt, band_rank))
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
worst AS (
    SELECT prompt, max(band_rank) AS band_rank FROM below GROUP BY prompt
)
SELECT chosen, arg_min(candidate, sample_key($seed, 'rejected/' || $policy, sha256(named_by))) AS rejected
FROM (FROM below SEMI JOIN worst USING (prompt, band_rank))
JOIN (SELECT candidate, named_by FROM candidates) USING (candidate)
GROUP BY chosen
