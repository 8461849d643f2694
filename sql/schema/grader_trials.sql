CREATE TABLE grader_trials (
    candidate VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    wording VARCHAR NOT NULL,
    prompt_id UUID NOT NULL,
    request_id UUID NOT NULL,
    grade TINYINT,
    reasoning VARCHAR,
    raw_answer VARCHAR,
    parsed_as VARCHAR NOT NULL,
    attempts INTEGER NOT NULL,
    finish_reason VARCHAR NOT NULL
);
COMMENT ON TABLE grader_trials IS 'What candidates for the grader say of the prompts that people have labelled: models and wordings tried before anything is graded (report, section 4.1.4).';
COMMENT ON COLUMN grader_trials.candidate IS 'Model and wording, with a dot between: the partition.';
COMMENT ON COLUMN grader_trials.model IS 'The model.';
COMMENT ON COLUMN grader_trials.wording IS 'The wording of its instruction.';
COMMENT ON COLUMN grader_trials.prompt_id IS 'The labelled prompt.';
COMMENT ON COLUMN grader_trials.request_id IS 'The request whose answer counts.';
COMMENT ON COLUMN grader_trials.grade IS 'As in controversy_labels; NULL where unparsable.';
COMMENT ON COLUMN grader_trials.reasoning IS 'The reasoning in the object that the grade is read from.';
COMMENT ON COLUMN grader_trials.raw_answer IS 'The answer as it came.';
COMMENT ON COLUMN grader_trials.parsed_as IS 'As in controversy_labels: json, last_object, either with _after_thinking, or unparsable.';
COMMENT ON COLUMN grader_trials.attempts IS 'How many answers were asked for.';
COMMENT ON COLUMN grader_trials.finish_reason IS 'How that answer ended.';
