CREATE TABLE human_labels (
    row_number BIGINT NOT NULL,
    prompt_id UUID NOT NULL,
    prompt_hash VARCHAR,
    messages STRUCT(role VARCHAR, content VARCHAR)[],
    messages_hash VARCHAR,
    annotator VARCHAR,
    label TINYINT,
    malformed_reason VARCHAR,
    malformed_detail VARCHAR
);
COMMENT ON TABLE human_labels IS 'People''s grades of prompts on the scale of controversy_labels, as imported: one row a prompt and annotator.';
COMMENT ON COLUMN human_labels.row_number IS 'Position in the source, from 0.';
COMMENT ON COLUMN human_labels.prompt_id IS 'The labelled prompt, by the same hash as everywhere.';
COMMENT ON COLUMN human_labels.prompt_hash IS 'The whole hash of that prompt; NULL where the row names it by id alone.';
COMMENT ON COLUMN human_labels.messages IS 'That prompt as the row has it; NULL where it names it by id alone.';
COMMENT ON COLUMN human_labels.messages_hash IS 'A hash of those messages as they stand.';
COMMENT ON COLUMN human_labels.annotator IS 'Who gave the label.';
COMMENT ON COLUMN human_labels.label IS 'The grade, 0 (objective) to 3 (ideology decides the answer).';
COMMENT ON COLUMN human_labels.malformed_reason IS 'The kind of fault for which the row cannot be used; NULL where it can.';
COMMENT ON COLUMN human_labels.malformed_detail IS 'Where the fault is and what was seen there; NULL where the reason says all.';
