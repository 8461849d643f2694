CREATE TABLE wordings (
    wording_id VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    principle VARCHAR,
    number INTEGER,
    text VARCHAR NOT NULL,
    wording_hash VARCHAR NOT NULL
);
COMMENT ON TABLE wordings IS 'Every text of ours that an engine is shown, from the recipe''s wordings folder, with the charter put in.';
COMMENT ON COLUMN wordings.wording_id IS 'Name of the wording, e.g. principle/honest/03 or charter_persona.';
COMMENT ON COLUMN wordings.kind IS 'principle, or the name of the file the text comes from.';
COMMENT ON COLUMN wordings.principle IS 'helpful, truthful or honest; NULL for other kinds.';
COMMENT ON COLUMN wordings.number IS 'Position among the wordings of its principle, from 0; NULL for other kinds.';
COMMENT ON COLUMN wordings.text IS 'The text, empty for no message; placeholders such as {prompt} stand where rows are put in.';
COMMENT ON COLUMN wordings.wording_hash IS 'sha256 of the text.';
