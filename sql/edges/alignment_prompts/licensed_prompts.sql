-- The prompts and the tracks of their sources.
SELECT dataset, dataset_order, prompt_id, track, messages_hash, source, language, upstream_id
FROM licensed_prompts
