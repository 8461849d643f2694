CREATE TABLE licensed_prompts (
    dataset VARCHAR NOT NULL,
    dataset_order INTEGER NOT NULL,
    row_number BIGINT NOT NULL,
    prompt_id UUID NOT NULL,
    prompt_hash VARCHAR NOT NULL,
    track VARCHAR NOT NULL,
    messages STRUCT(role VARCHAR, content VARCHAR)[] NOT NULL,
    messages_hash VARCHAR NOT NULL,
    source VARCHAR,
    language VARCHAR,
    upstream_id VARCHAR,
    origin_url VARCHAR,
    origin_domain VARCHAR,
    consent_basis VARCHAR NOT NULL
);
COMMENT ON TABLE licensed_prompts IS 'The prompts of all sources that licence, consent, form, length, repeats and limit leave: one row for each source in which a prompt comes.';
COMMENT ON COLUMN licensed_prompts.dataset IS 'The source''s name in the recipe.';
COMMENT ON COLUMN licensed_prompts.dataset_order IS 'The source''s place in the recipe, from 1; of a prompt in several sources the first row counts.';
COMMENT ON COLUMN licensed_prompts.row_number IS 'The row''s position in the source.';
COMMENT ON COLUMN licensed_prompts.prompt_id IS 'The first 128 bits of prompt_hash.';
COMMENT ON COLUMN licensed_prompts.prompt_hash IS 'sha256 of the normalized messages: requests and draws go by it.';
COMMENT ON COLUMN licensed_prompts.track IS 'The track that the recipe gives the source: graded (the grader decides), standard or controversial.';
COMMENT ON COLUMN licensed_prompts.messages IS 'The conversation as read, ending with a user message.';
COMMENT ON COLUMN licensed_prompts.messages_hash IS 'sha256 of the messages as read, to the character.';
COMMENT ON COLUMN licensed_prompts.source IS 'The collection that the row says it comes from.';
COMMENT ON COLUMN licensed_prompts.language IS 'Its language; see source_prompts.';
COMMENT ON COLUMN licensed_prompts.upstream_id IS 'The row''s id upstream.';
COMMENT ON COLUMN licensed_prompts.origin_url IS 'The page the prompt was taken from, as the row writes it; NULL where the row says nothing.';
COMMENT ON COLUMN licensed_prompts.origin_domain IS 'Its host.';
COMMENT ON COLUMN licensed_prompts.consent_basis IS 'What admitted the row: robots_txt (its origin''s snapshot) or, where that decides nothing, subset_rule or source_rule (the recipe''s rule for its sub-collection, or for its source or unknown origins).';
