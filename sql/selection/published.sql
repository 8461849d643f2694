-- The published rule (report, section 4.1.4; bands as the design words them). Chosen: drawn from the
-- candidates above every reference, else from quantile 1, else from the middle, else from the worst.
-- Rejected: drawn from the worst, else from the middle, else from the best. The rejected one has a lower
-- reward and another text. Draws are functions of (seed, policy, completion).
-- A further pair is drawn like the first, but no text is chosen twice or rejected twice.
WITH unchosen AS NOT MATERIALIZED (
    FROM candidates
    ANTI JOIN taken ON taken.prompt = candidates.prompt AND taken.chosen_text = candidates.text
),
unrejected AS NOT MATERIALIZED (
    FROM candidates
    ANTI JOIN taken ON taken.prompt = candidates.prompt AND taken.rejected_text = candidates.text
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
best AS (
    SELECT prompt, min(band_rank) AS band_rank FROM choosable GROUP BY prompt
),
chosen AS MATERIALIZED (
    SELECT
        prompt,
        arg_min(
            {'candidate': candidate, 'reward': reward, 'text': text},
            sample_key($seed, 'chosen/' || $policy, candidate::VARCHAR)) AS one
    FROM choosable SEMI JOIN best USING (prompt, band_rank)
    GROUP BY prompt
),
below AS NOT MATERIALIZED (
    SELECT unrejected.*
    FROM unrejected
    JOIN chosen ON chosen.prompt = unrejected.prompt AND unrejected.reward < one.reward AND unrejected.text <> one.text
),
worst AS (
    SELECT prompt, max(band_rank) AS band_rank FROM below GROUP BY prompt
),
drawn_below AS (
    SELECT prompt, arg_min(candidate, sample_key($seed, 'rejected/' || $policy, candidate::VARCHAR)) AS rejected
    FROM below SEMI JOIN worst USING (prompt, band_rank)
    GROUP BY prompt
)
SELECT one.candidate AS chosen, rejected FROM chosen JOIN drawn_below USING (prompt)
