-- What one model is asked (report, section 4.1.4): the variants of each prompt's track, or the
-- reference completions of a policy; every draw is a function of the seed and the row.
WITH variants AS (
    SELECT
        prompt_id, prompt_hash, track, messages_hash,
        unnest(CASE track WHEN 'standard' THEN $standard_variants ELSE $controversial_variants END) AS variant
    FROM alignment_prompts
),
samples AS (
    SELECT
        *,
        unnest(range(CASE variant WHEN 'reference' THEN $completions_reference_completions ELSE 1 END))::INTEGER
            AS sample_index
    FROM variants
),
named AS (
    SELECT *, completion_hash(prompt_hash, $model, variant, sample_index) AS completion_hash
    FROM samples
),
principles AS (
    SELECT principle, dense_rank() OVER (ORDER BY principle) - 1 AS principle_number,
        count(*) AS size
    FROM wordings
    WHERE kind = 'principle'
    GROUP BY principle
),
-- Distinct usable personas in an order of their own, so that the order of the file does not matter.
people AS (
    SELECT persona_id, persona_hash, row_number() OVER (ORDER BY persona_hash) - 1 AS persona_number
    FROM (SELECT DISTINCT persona_id, persona_hash FROM personas WHERE malformed_reason IS NULL)
),
drawn AS (
    SELECT
        named.*,
        CASE variant WHEN 'principle' THEN
            sampled_index($seed, 'principle', completion_hash, (SELECT count(*) FROM principles))
        END AS principle_number,
        CASE variant WHEN 'persona' THEN
            sampled_index($seed, 'persona', completion_hash, (SELECT count(*) FROM people))
        END AS persona_number
    FROM named
),
worded AS (
    SELECT
        drawn.*,
        principles.principle,
        people.persona_id,
        people.persona_hash,
        CASE variant
            WHEN 'principle' THEN format(
                'principle/{}/{:02d}', principles.principle,
                sampled_index($seed, 'wording', completion_hash, principles.size))
            WHEN 'persona' THEN 'persona'
            WHEN 'charter' THEN 'charter_persona'
        END AS wording_id
    FROM drawn
    LEFT JOIN principles USING (principle_number)
    LEFT JOIN people USING (persona_number)
)
SELECT
    as_id(completion_hash) AS completion_id,
    request_hash(
        completion_hash, 'generate', $model_fingerprint,
        content_hash([messages_hash, wording_hash, persona_hash]), $sampling, NULL) AS request_id,
    prompt_id,
    track,
    $model AS model,
    variant,
    sample_index,
    worded.principle,
    wording_id,
    wording_hash,
    persona_id,
    $model_fingerprint AS model_fingerprint,
    $sampling AS sampling
FROM worded
LEFT JOIN wordings USING (wording_id)
-- Ids of prompts that stand one after the other take a fraction of the room.
ORDER BY prompt_id
