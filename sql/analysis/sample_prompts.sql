-- What do prompts look like? Five of each source, drawn by their ids, which are hashes. row_id is the prompt_id.
-- Page: source_prompts as texts
WITH drawn AS (
    SELECT dataset, unnest(min(prompt_id, 5)) AS prompt_id
    FROM (SELECT DISTINCT dataset, prompt_id FROM source_prompts WHERE malformed_reason IS NULL)
    GROUP BY dataset
)
SELECT
    prompt_id AS row_id,
    prompt_id,
    dataset,
    min(source_prompts.row_number) AS row_number,
    arg_min(source, source_prompts.row_number) AS collection,
    len(arg_min(messages, source_prompts.row_number)) AS messages,
    arg_min(messages, source_prompts.row_number)[-1].content AS prompt
FROM source_prompts
SEMI JOIN drawn USING (dataset, prompt_id)
GROUP BY dataset, prompt_id
ORDER BY dataset, row_id
