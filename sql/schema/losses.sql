CREATE TABLE losses (
    run_id VARCHAR NOT NULL,
    asset VARCHAR NOT NULL,
    partition VARCHAR,
    part VARCHAR,
    track VARCHAR,
    loss VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    rows BIGINT NOT NULL,
    of_rows BIGINT NOT NULL,
    share DOUBLE NOT NULL,
    allowed DOUBLE,
    example VARCHAR
);
COMMENT ON TABLE losses IS 'What was lost where the rows that stand were made: malformed, excluded, unparsable, empty, without score. Written with the rows themselves, counted by sql/losses; a step that loses more than allowed publishes neither.';
COMMENT ON COLUMN losses.run_id IS 'The Dagster run that made the rows.';
COMMENT ON COLUMN losses.asset IS 'The asset, and its table.';
COMMENT ON COLUMN losses.partition IS 'Its partition; NULL where it has none.';
COMMENT ON COLUMN losses.part IS 'The source, model or policy whose rows are counted; NULL for all.';
COMMENT ON COLUMN losses.track IS 'The track whose rows are counted; NULL for all.';
COMMENT ON COLUMN losses.loss IS 'The kind of loss; those of one kind are judged together.';
COMMENT ON COLUMN losses.reason IS 'Why, in words that are the same for all rows of that reason.';
COMMENT ON COLUMN losses.rows IS 'Rows lost for that reason.';
COMMENT ON COLUMN losses.of_rows IS 'Rows that could have been lost.';
COMMENT ON COLUMN losses.share IS 'rows / of_rows.';
COMMENT ON COLUMN losses.allowed IS 'The largest share of this kind that the recipe allows (limits); NULL where it is only told.';
COMMENT ON COLUMN losses.example IS 'One of the rows.';
