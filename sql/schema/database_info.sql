CREATE TABLE database_info (
    recipe VARCHAR,
    schema_version VARCHAR NOT NULL,
    product_version VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL,
    migrated_at TIMESTAMP NOT NULL
);
COMMENT ON TABLE database_info IS 'What this database is: one row, kept by the product.';
COMMENT ON COLUMN database_info.recipe IS 'The recipe whose rows are here; another one is refused. NULL where none was named yet.';
COMMENT ON COLUMN database_info.schema_version IS 'Hash of every table, column, type and comment of sql/schema.';
COMMENT ON COLUMN database_info.product_version IS 'The version of alignment-assets that wrote this row.';
COMMENT ON COLUMN database_info.created_at IS 'When the row was first written, UTC.';
COMMENT ON COLUMN database_info.migrated_at IS 'When the tables were last brought forward, UTC.';
