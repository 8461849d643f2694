CREATE TABLE human_labels (
    row_number BIGINT NOT NULL,
    prompt_id UUID NOT NULL,
    annotator VARCHAR,
    label TINYINT,
    malformed_reason VARCHAR,
    malformed_detail VARCHAR
);
COMMENT ON TABLE human_labels IS 'People''s grades of prompts on the scale of controversy_labels, as imported: one row a prompt and annotator.';
COMMENT ON COLUMN human_labels.row_number IS 'Position in the source, from 0.';
COMMENT ON COLUMN human_labels.prompt_id IS 'The labelled prompt, by the same hash as everywhere.';
COMMENT ON COLUMN human_labels.annotator IS 'Who gave the label.';
COMMENT ON COLUMN human_labels.label IS 'The grade, 0 (objective) to 3 (ideology decides the answer).';
COMMENT ON COLUMN human_labels.malformed_reason IS 'The kind of fault for which the row cannot be used; NULL where it can.';
COMMENT ON COLUMN human_labels.malformed_detail IS 'Where the fault is and what was seen there; NULL where the reason says all.';
