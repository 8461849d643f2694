-- The widest pair: the highest reward against the lowest, whatever the bands; equal rewards fall to a draw.
-- The two texts differ. Draws are functions of (seed, policy, completion).
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
highest AS (
    SELECT prompt, max(reward) AS reward FROM choosable GROUP BY prompt
),
chosen AS MATERIALIZED (
    SELECT
        prompt,
        arg_min(
            {'candidate': candidate, 'reward': reward, 'text': text},
            sample_key($seed, 'chosen/' || $policy, candidate::VARCHAR)) AS one
    FROM choosable SEMI JOIN highest USING (prompt, reward)
    GROUP BY prompt
),
below AS NOT MATERIALIZED (
    SELECT unrejected.*
    FROM unrejected
    JOIN chosen ON chosen.prompt = unrejected.prompt AND unrejected.reward < one.reward AND unrejected.text <> one.text
),
least AS (
    SELECT prompt, min(reward) AS reward FROM below GROUP BY prompt
),
drawn_below AS (
    SELECT prompt, arg_min(candidate, sample_key($seed, 'rejected/' || $policy, candidate::VARCHAR)) AS rejected
    FROM below SEMI JOIN least USING (prompt, reward)
    GROUP BY prompt
)
SELECT one.candidate AS chosen, rejected FROM chosen JOIN drawn_below USING (prompt)
