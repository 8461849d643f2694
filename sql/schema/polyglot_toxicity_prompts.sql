CREATE TABLE polyglot_toxicity_prompts (
    row_number BIGINT NOT NULL,
    prompt_id VARCHAR NOT NULL,
    messages STRUCT(role VARCHAR, content VARCHAR)[],
    messages_hash VARCHAR,
    source VARCHAR,
    upstream_id VARCHAR,
    malformed_reason VARCHAR
);
COMMENT ON TABLE polyglot_toxicity_prompts IS 'The WildChat part of PolygloToxicityPrompts as read; these prompts join the controversial track.';
COMMENT ON COLUMN polyglot_toxicity_prompts.row_number IS 'Position in the source, from 0, over all configurations.';
COMMENT ON COLUMN polyglot_toxicity_prompts.prompt_id IS 'sha256 of the normalized messages; of the raw row where it is malformed.';
COMMENT ON COLUMN polyglot_toxicity_prompts.messages IS 'The prompt as one user message; NULL where malformed.';
COMMENT ON COLUMN polyglot_toxicity_prompts.messages_hash IS 'sha256 of the messages as read, to the character.';
COMMENT ON COLUMN polyglot_toxicity_prompts.source IS 'The dataset''s configuration (wildchat-de, …) or the file the row was read from.';
COMMENT ON COLUMN polyglot_toxicity_prompts.upstream_id IS 'The row''s id upstream, where it has one.';
COMMENT ON COLUMN polyglot_toxicity_prompts.malformed_reason IS 'Why the row cannot be used; NULL where it can.';
