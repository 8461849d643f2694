CREATE TABLE controversy_labels (
    prompt_id UUID NOT NULL,
    request_id UUID NOT NULL,
    grade TINYINT,
    is_controversial BOOLEAN,
    reasoning VARCHAR,
    model VARCHAR NOT NULL,
    raw_answer VARCHAR,
    parsed_as VARCHAR NOT NULL,
    attempts INTEGER NOT NULL,
    finish_reason VARCHAR NOT NULL
);
COMMENT ON TABLE controversy_labels IS 'An LLM''s grade of the ideological sensitivity of each licensed prompt of a graded source (report, section 4.1.4).';
COMMENT ON COLUMN controversy_labels.prompt_id IS 'The graded prompt.';
COMMENT ON COLUMN controversy_labels.request_id IS 'The request whose answer counts.';
COMMENT ON COLUMN controversy_labels.grade IS '0 objective, 1 broad consensus, 2 ideology could change the framing, 3 ideology decides the answer; NULL where unparsable.';
COMMENT ON COLUMN controversy_labels.is_controversial IS 'Whether the grade reaches the recipe''s threshold; NULL where unparsable, which keeps the prompt off both tracks.';
COMMENT ON COLUMN controversy_labels.reasoning IS 'The reasoning in the object that the grade is read from.';
COMMENT ON COLUMN controversy_labels.model IS 'The grading model.';
COMMENT ON COLUMN controversy_labels.raw_answer IS 'The answer as it came.';
COMMENT ON COLUMN controversy_labels.parsed_as IS 'json (the whole answer), last_object (the last JSON object in it), either with _after_thinking where the answer thinks first, or unparsable.';
COMMENT ON COLUMN controversy_labels.attempts IS 'How many answers were asked for.';
COMMENT ON COLUMN controversy_labels.finish_reason IS 'How that answer ended.';
