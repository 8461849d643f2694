CREATE TABLE prism_prompts (
    row_number BIGINT NOT NULL,
    prompt_id VARCHAR NOT NULL,
    messages STRUCT(role VARCHAR, content VARCHAR)[],
    messages_hash VARCHAR,
    source VARCHAR,
    upstream_id VARCHAR,
    conversation_type VARCHAR,
    malformed_reason VARCHAR
);
COMMENT ON TABLE prism_prompts IS 'The opening prompts of PRISM as read, all conversation types; the guided ones join the controversial track.';
COMMENT ON COLUMN prism_prompts.row_number IS 'Position in the source, from 0.';
COMMENT ON COLUMN prism_prompts.prompt_id IS 'sha256 of the normalized messages; of the raw row where it is malformed.';
COMMENT ON COLUMN prism_prompts.messages IS 'The opening prompt as one user message; NULL where malformed.';
COMMENT ON COLUMN prism_prompts.messages_hash IS 'sha256 of the messages as read, to the character.';
COMMENT ON COLUMN prism_prompts.source IS 'The dataset''s configuration or the file the row was read from.';
COMMENT ON COLUMN prism_prompts.upstream_id IS 'The conversation''s id upstream.';
COMMENT ON COLUMN prism_prompts.conversation_type IS 'unguided, values guided or controversy guided.';
COMMENT ON COLUMN prism_prompts.malformed_reason IS 'Why the row cannot be used; NULL where it can.';
