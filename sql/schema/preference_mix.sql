CREATE TABLE preference_mix (
    row_number BIGINT NOT NULL,
    prompt_id VARCHAR NOT NULL,
    messages STRUCT(role VARCHAR, content VARCHAR)[],
    messages_hash VARCHAR,
    source VARCHAR,
    upstream_id VARCHAR,
    origin_url VARCHAR,
    origin_domain VARCHAR,
    malformed_reason VARCHAR
);
COMMENT ON TABLE preference_mix IS 'Every row of the preference mix as read: its prompt is all messages before the last assistant turn.';
COMMENT ON COLUMN preference_mix.row_number IS 'Position in the source, from 0.';
COMMENT ON COLUMN preference_mix.prompt_id IS 'sha256 of the normalized messages (NFC, white space runs as one space); of the raw row where it is malformed.';
COMMENT ON COLUMN preference_mix.messages IS 'The conversation as read, ending with a user message; NULL where malformed.';
COMMENT ON COLUMN preference_mix.messages_hash IS 'sha256 of the messages as read, to the character.';
COMMENT ON COLUMN preference_mix.source IS 'The collection that the mix says the row comes from.';
COMMENT ON COLUMN preference_mix.upstream_id IS 'The row''s id in the mix; sub-collections show in it.';
COMMENT ON COLUMN preference_mix.origin_url IS 'The page the prompt was taken from, where the source says so.';
COMMENT ON COLUMN preference_mix.origin_domain IS 'The host of origin_url, in lower case.';
COMMENT ON COLUMN preference_mix.malformed_reason IS 'Why the row cannot be used as a conversation; NULL where it can.';
