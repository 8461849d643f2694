-- Which rows of the training sets are not in an export's format, and why?
-- Page: training_export
WITH sides AS (
    SELECT policy, pair_id, prompt_id, unnest([chosen_completion_id, rejected_completion_id]) AS completion_id
    FROM dpo_pairs
),
pairs AS (
    SELECT
        policy,
        pair_id,
        -- Of two reasons the one that comes first in the alphabet.
        coalesce(
            min(coalesce(missing_reason, 'no log-probability was asked for')) FILTER (logprob IS NULL),
            CASE WHEN min(prompt_tokens) < max(prompt_tokens)
                THEN 'its answers begin at different tokens of the prompt' END) AS reason
    FROM sides
    LEFT JOIN reference_logprobs USING (policy, prompt_id, completion_id)
    GROUP BY ALL
)
SELECT
    policy,
    'dpo_ref' AS format,
    reason,
    count(*) AS left_out,
    round(count(*) / sum(count(*)) OVER (PARTITION BY policy), 4) AS share
FROM pairs
GROUP BY policy, reason
QUALIFY reason IS NOT NULL
ORDER BY policy, format, left_out DESC, reason
