CREATE TABLE shown_texts (
    run_id VARCHAR NOT NULL,
    asset VARCHAR NOT NULL,
    partition VARCHAR,
    question VARCHAR NOT NULL,
    text_id UUID NOT NULL,
    prompt_id UUID NOT NULL,
    shown_at TIMESTAMP NOT NULL
);
COMMENT ON TABLE shown_texts IS 'Whose texts stand in the metadata of Dagster''s runs, which Dagster keeps: who withdraws a text finds here the runs that show it. Rows are added with each run, and stay.';
COMMENT ON COLUMN shown_texts.run_id IS 'The Dagster run that shows the text.';
COMMENT ON COLUMN shown_texts.asset IS 'The asset on whose page it stands.';
COMMENT ON COLUMN shown_texts.partition IS 'Its partition; NULL where it has none.';
COMMENT ON COLUMN shown_texts.question IS 'The question of sql/analysis that shows it.';
COMMENT ON COLUMN shown_texts.text_id IS 'The row whose texts are shown: its prompt_id, completion_id or pair_id, as the question says.';
COMMENT ON COLUMN shown_texts.prompt_id IS 'The prompt that stands there, or is answered there.';
COMMENT ON COLUMN shown_texts.shown_at IS 'When, UTC.';
