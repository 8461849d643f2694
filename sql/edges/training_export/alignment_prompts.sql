-- What the data card tells of prompts: where they come from, and in which language.
SELECT prompt_id, track, dataset, source, language
FROM alignment_prompts
