CREATE TABLE training_export (
    policy VARCHAR NOT NULL,
    format VARCHAR NOT NULL,
    split VARCHAR NOT NULL,
    file VARCHAR NOT NULL,
    rows BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    sha256 VARCHAR NOT NULL
);
COMMENT ON TABLE training_export IS 'The files of the folder that a trainer takes: one row each, in each format of sql/exports.';
COMMENT ON COLUMN training_export.policy IS 'The policy: the partition, and the folder''s name.';
COMMENT ON COLUMN training_export.format IS 'The file of sql/exports that made it.';
COMMENT ON COLUMN training_export.split IS 'train, or test where the recipe asks for a share of it.';
COMMENT ON COLUMN training_export.file IS 'Its path in the folder.';
COMMENT ON COLUMN training_export.rows IS 'How many rows it has.';
COMMENT ON COLUMN training_export.bytes IS 'Its size.';
COMMENT ON COLUMN training_export.sha256 IS 'Over its bytes: the manifest has the same.';
