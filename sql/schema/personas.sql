CREATE TABLE personas (
    row_number BIGINT NOT NULL,
    persona_id UUID NOT NULL,
    persona_hash VARCHAR NOT NULL,
    persona VARCHAR,
    malformed_reason VARCHAR,
    malformed_detail VARCHAR
);
COMMENT ON TABLE personas IS 'Descriptions of people, as read from PersonaHub; the persona variant draws from them.';
COMMENT ON COLUMN personas.row_number IS 'Position in the source, from 0.';
COMMENT ON COLUMN personas.persona_id IS 'The first 128 bits of persona_hash.';
COMMENT ON COLUMN personas.persona_hash IS 'sha256 of the description; of the raw row where it is malformed.';
COMMENT ON COLUMN personas.persona IS 'The description, stripped of white space around it; NULL where malformed.';
COMMENT ON COLUMN personas.malformed_reason IS 'The kind of fault for which the row cannot be used; NULL where it can.';
COMMENT ON COLUMN personas.malformed_detail IS 'Where the fault is and what was seen there; NULL where the reason says all.';
