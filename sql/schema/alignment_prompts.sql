CREATE TABLE alignment_prompts (
    prompt_id UUID NOT NULL,
    prompt_hash VARCHAR NOT NULL,
    track VARCHAR NOT NULL,
    messages STRUCT(role VARCHAR, content VARCHAR)[] NOT NULL,
    messages_hash VARCHAR NOT NULL,
    dataset VARCHAR NOT NULL,
    datasets VARCHAR[] NOT NULL,
    source VARCHAR,
    language VARCHAR,
    upstream_id VARCHAR
);
COMMENT ON TABLE alignment_prompts IS 'The prompts that completions are asked for: one row each, on one track.';
COMMENT ON COLUMN alignment_prompts.prompt_id IS 'The first 128 bits of prompt_hash.';
COMMENT ON COLUMN alignment_prompts.prompt_hash IS 'sha256 of the normalized messages: requests and draws go by it.';
COMMENT ON COLUMN alignment_prompts.track IS 'standard or controversial; a prompt that comes on both is controversial. Graded prompts go by their grade.';
COMMENT ON COLUMN alignment_prompts.messages IS 'The conversation as read, ending with a user message.';
COMMENT ON COLUMN alignment_prompts.messages_hash IS 'sha256 of the messages as read, to the character.';
COMMENT ON COLUMN alignment_prompts.dataset IS 'The source that the kept row comes from: the first in the recipe that has the prompt.';
COMMENT ON COLUMN alignment_prompts.datasets IS 'All sources in which the prompt comes, in the recipe''s order.';
COMMENT ON COLUMN alignment_prompts.source IS 'The kept row''s source.';
COMMENT ON COLUMN alignment_prompts.language IS 'Its language; see source_prompts.';
COMMENT ON COLUMN alignment_prompts.upstream_id IS 'The kept row''s id upstream.';
