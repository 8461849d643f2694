CREATE TABLE prompt_exclusions (
    dataset VARCHAR NOT NULL,
    row_number BIGINT NOT NULL,
    prompt_id UUID NOT NULL,
    source VARCHAR,
    upstream_id VARCHAR,
    rule VARCHAR NOT NULL,
    detail VARCHAR NOT NULL
);
COMMENT ON TABLE prompt_exclusions IS 'Every row of the prompt sources that was dropped, with the first rule that dropped it.';
COMMENT ON COLUMN prompt_exclusions.dataset IS 'The source''s name in the recipe.';
COMMENT ON COLUMN prompt_exclusions.row_number IS 'The row''s position there.';
COMMENT ON COLUMN prompt_exclusions.prompt_id IS 'The row''s prompt.';
COMMENT ON COLUMN prompt_exclusions.source IS 'The row''s source.';
COMMENT ON COLUMN prompt_exclusions.upstream_id IS 'The row''s id upstream.';
COMMENT ON COLUMN prompt_exclusions.rule IS 'malformed, licence, consent, keep, too_long, repeat or limit, tried in this order.';
COMMENT ON COLUMN prompt_exclusions.detail IS 'What the rule saw.';
