CREATE TABLE lineage (
    table_name VARCHAR NOT NULL,
    partition VARCHAR,
    version VARCHAR NOT NULL,
    upstream VARCHAR,
    upstream_partition VARCHAR,
    upstream_version VARCHAR,
    rows BIGINT NOT NULL,
    content VARCHAR NOT NULL,
    made_at TIMESTAMP NOT NULL
);
COMMENT ON TABLE lineage IS 'What each table, or partition of one, was made of: one row for itself (upstream is NULL), and one for each part of another table that it was read from. Written with the rows themselves.';
COMMENT ON COLUMN lineage.table_name IS 'The table.';
COMMENT ON COLUMN lineage.partition IS 'Its partition; NULL where it has none.';
COMMENT ON COLUMN lineage.version IS 'Names this making of it.';
COMMENT ON COLUMN lineage.upstream IS 'A table that its rows were made of, or recipe for settings; NULL in the row for itself.';
COMMENT ON COLUMN lineage.upstream_partition IS 'That table''s partition; NULL where it has none.';
COMMENT ON COLUMN lineage.upstream_version IS 'The making of it that was read; NULL where no asset made it.';
COMMENT ON COLUMN lineage.rows IS 'How many rows were read there, or were made.';
COMMENT ON COLUMN lineage.content IS 'A hash over the columns that sql/edges reads of those rows; over all columns in the row for itself.';
COMMENT ON COLUMN lineage.made_at IS 'When the rows were published, UTC.';
