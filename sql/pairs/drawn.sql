-- The pairs of a strategy that says in which order candidates are chosen and rejected, in `ordered`. Chosen: drawn
-- from the first in order that leave something to reject. Rejected: drawn from the first in order of those with a
-- lower reward and another text. No text is chosen twice or rejected twice. Draws are functions of (seed, policy,
-- completion).
WITH unchosen AS NOT MATERIALIZED (
    FROM ordered
    ANTI JOIN taken ON taken.prompt = ordered.prompt AND taken.chosen_text = ordered.text
    WHERE chosen_order IS NOT NULL
),
unrejected AS NOT MATERIALIZED (
    FROM ordered
    ANTI JOIN taken ON taken.prompt = ordered.prompt AND taken.rejected_text = ordered.text
    WHERE rejected_order IS NOT NULL
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
    SELECT prompt, min(chosen_order) AS chosen_order FROM choosable GROUP BY prompt
),
chosen AS MATERIALIZED (
    SELECT
        prompt,
        arg_min(
            {'candidate': candidate, 'reward': reward, 'text': text},
            sample_key($seed, 'chosen/' || $policy, candidate::VARCHAR)) AS one
    FROM choosable SEMI JOIN first USING (prompt, chosen_order)
    GROUP BY prompt
),
below AS NOT MATERIALIZED (
    SELECT unrejected.*
    FROM unrejected
    JOIN chosen ON chosen.prompt = unrejected.prompt AND unrejected.reward < one.reward AND unrejected.text <> one.text
),
last AS (
    SELECT prompt, min(rejected_order) AS rejected_order FROM below GROUP BY prompt
),
drawn_below AS (
    SELECT prompt, arg_min(candidate, sample_key($seed, 'rejected/' || $policy, candidate::VARCHAR)) AS rejected
    FROM below SEMI JOIN last USING (prompt, rejected_order)
    GROUP BY prompt
)
SELECT one.candidate AS chosen, rejected FROM chosen JOIN drawn_below USING (prompt)
