-- Why a database, whose pairs are `own`, has none of the pairs in `other` that it lacks. Of several rules that its
-- prompt's rows fell to the last counts: it is the one that the best of them fell to.
WITH made AS (
    SELECT policy FROM own
    UNION
    SELECT policy
    FROM selection_exclusions
    WHERE $policies IS NULL OR list_contains($policies::VARCHAR[], policy)
),
paired AS (
    SELECT DISTINCT policy, prompt_id FROM own
),
rules AS (
    SELECT
        prompt_id,
        arg_max(rule, list_position(
            ['malformed', 'licence', 'consent', 'keep', 'too_long', 'repeat', 'limit'],
            rule)) AS rule
    FROM prompt_exclusions
    GROUP BY prompt_id
)
SELECT
    other.pair_id,
    CASE
        WHEN made.policy IS NULL THEN 'policy_missing'
        WHEN paired.policy IS NOT NULL THEN 'fewer_pairs'
        WHEN selection_exclusions.policy IS NOT NULL THEN selection_exclusions.reason
        WHEN alignment_prompts.prompt_id IS NOT NULL THEN 'not_made'
        WHEN other.prompt_id IN (SELECT prompt_id FROM licensed_prompts) THEN 'no_grade'
        ELSE coalesce(rules.rule, 'not_read')
    END AS reason
FROM other
ANTI JOIN own USING (pair_id)
LEFT JOIN made USING (policy)
LEFT JOIN paired USING (policy, prompt_id)
LEFT JOIN selection_exclusions USING (policy, prompt_id)
LEFT JOIN alignment_prompts USING (prompt_id)
LEFT JOIN rules USING (prompt_id)
