CREATE TABLE source_prompts (
    dataset VARCHAR NOT NULL,
    row_number BIGINT NOT NULL,
    prompt_id UUID NOT NULL,
    prompt_hash VARCHAR NOT NULL,
    messages STRUCT(role VARCHAR, content VARCHAR)[],
    messages_hash VARCHAR,
    source VARCHAR,
    language VARCHAR,
    upstream_id VARCHAR,
    origin_url VARCHAR,
    origin_pages VARCHAR[],
    origin_domain VARCHAR,
    extra JSON,
    read_as VARCHAR,
    malformed_reason VARCHAR,
    malformed_detail VARCHAR
);
COMMENT ON TABLE source_prompts IS 'Every row of the prompt sources as read, one partition for each source of the recipe.';
COMMENT ON COLUMN source_prompts.dataset IS 'The source''s name in the recipe.';
COMMENT ON COLUMN source_prompts.row_number IS 'Position in the source, from 0, over all its configurations.';
COMMENT ON COLUMN source_prompts.prompt_id IS 'The first 128 bits of prompt_hash.';
COMMENT ON COLUMN source_prompts.prompt_hash IS 'sha256 of the messages in normal form (NFC, without what shows nothing, white space runs as one space); of the raw row where it is malformed.';
COMMENT ON COLUMN source_prompts.messages IS 'The prompt as read, ending with a user message: all before a conversation''s last assistant turn, or a text as one message. NULL where malformed.';
COMMENT ON COLUMN source_prompts.messages_hash IS 'sha256 of the messages as read, to the character.';
COMMENT ON COLUMN source_prompts.source IS 'The collection that the row says it comes from; where no such column is mapped, the dataset''s configuration or the file it was read from.';
COMMENT ON COLUMN source_prompts.language IS 'Its language as the source tells it: a mapped column, or what the config''s name ends in (wildchat-de); und where neither does.';
COMMENT ON COLUMN source_prompts.upstream_id IS 'The row''s id upstream, where it has one; sub-collections may show in it.';
COMMENT ON COLUMN source_prompts.origin_url IS 'The page the prompt was taken from, as the row writes it, a list as JSON. NULL where the row says nothing.';
COMMENT ON COLUMN source_prompts.origin_pages IS 'The pages that origin_url names, as URLs with the host in lower case and punycode. Empty where none can be read; NULL where the row says nothing.';
COMMENT ON COLUMN source_prompts.origin_domain IS 'The host of the first of origin_pages.';
COMMENT ON COLUMN source_prompts.extra IS 'The other columns that the recipe maps, as a JSON object by our names; NULL where it maps none.';
COMMENT ON COLUMN source_prompts.read_as IS 'The form in which the prompt was found, such as list of {role, content}; NULL where malformed.';
COMMENT ON COLUMN source_prompts.malformed_reason IS 'The kind of fault for which the row cannot be used as a prompt; NULL where it can.';
COMMENT ON COLUMN source_prompts.malformed_detail IS 'Where the fault is and what was seen there; NULL where the reason says all.';
