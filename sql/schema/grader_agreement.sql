CREATE TABLE grader_agreement (
    candidate VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    wording VARCHAR NOT NULL,
    is_grader BOOLEAN NOT NULL,
    threshold TINYINT NOT NULL,
    is_recipe_threshold BOOLEAN NOT NULL,
    labelled_prompts BIGINT NOT NULL,
    untried_prompts BIGINT NOT NULL,
    tried_prompts BIGINT NOT NULL,
    unparsable_prompts BIGINT NOT NULL,
    repeated_labels BIGINT NOT NULL,
    graded_prompts BIGINT NOT NULL,
    tied_prompts BIGINT NOT NULL,
    true_positives BIGINT NOT NULL,
    false_positives BIGINT NOT NULL,
    true_negatives BIGINT NOT NULL,
    false_negatives BIGINT NOT NULL,
    accuracy DOUBLE,
    accuracy_low DOUBLE,
    accuracy_high DOUBLE,
    balanced_accuracy DOUBLE,
    kappa DOUBLE,
    kappa_low DOUBLE,
    kappa_high DOUBLE,
    alpha DOUBLE,
    human_unanimous DOUBLE,
    human_pairwise DOUBLE,
    human_majority DOUBLE,
    human_alpha DOUBLE,
    mcnemar STRUCT(candidate VARCHAR, prompts BIGINT, only_this_right BIGINT, only_that_right BIGINT, p DOUBLE)[]
);
COMMENT ON TABLE grader_agreement IS 'How far each candidate for the grader agrees with people, folded to 0/1 at every threshold: what the recipe''s gate goes by (report, section 4.1.4).';
COMMENT ON COLUMN grader_agreement.candidate IS 'Model and wording, with a dot between.';
COMMENT ON COLUMN grader_agreement.model IS 'The model.';
COMMENT ON COLUMN grader_agreement.wording IS 'The wording of its instruction.';
COMMENT ON COLUMN grader_agreement.is_grader IS 'Whether the recipe has this candidate grade.';
COMMENT ON COLUMN grader_agreement.threshold IS 'Grades from this one on count as controversial.';
COMMENT ON COLUMN grader_agreement.is_recipe_threshold IS 'Whether the recipe uses this threshold.';
COMMENT ON COLUMN grader_agreement.labelled_prompts IS 'Prompts with at least one label.';
COMMENT ON COLUMN grader_agreement.untried_prompts IS 'Of those, the ones without a text: their labels have an id that no source has, or a rule keeps the prompt out.';
COMMENT ON COLUMN grader_agreement.tried_prompts IS 'Of those, the ones that the candidate was asked about.';
COMMENT ON COLUMN grader_agreement.unparsable_prompts IS 'Of those, the ones without a grade.';
COMMENT ON COLUMN grader_agreement.repeated_labels IS 'Labels that do not count, because the same person labelled the same prompt again later.';
COMMENT ON COLUMN grader_agreement.graded_prompts IS 'Of those, the ones with a grade and a majority: the base of accuracy.';
COMMENT ON COLUMN grader_agreement.tied_prompts IS 'Labelled prompts on which the people are split evenly.';
COMMENT ON COLUMN grader_agreement.true_positives IS 'Grade and majority say controversial.';
COMMENT ON COLUMN grader_agreement.false_positives IS 'Only the grade says controversial.';
COMMENT ON COLUMN grader_agreement.true_negatives IS 'Neither says controversial.';
COMMENT ON COLUMN grader_agreement.false_negatives IS 'Only the majority says controversial.';
COMMENT ON COLUMN grader_agreement.accuracy IS 'Share of graded_prompts where grade and majority agree; NULL without any.';
COMMENT ON COLUMN grader_agreement.accuracy_low IS 'The lower end of Wilson''s interval of 95% about accuracy.';
COMMENT ON COLUMN grader_agreement.accuracy_high IS 'Its upper end.';
COMMENT ON COLUMN grader_agreement.balanced_accuracy IS 'Mean of the shares of controversial and of other prompts that are graded so; NULL without prompts of either kind.';
COMMENT ON COLUMN grader_agreement.kappa IS 'Cohen''s kappa of grade and majority: agreement beyond chance, 1 at most; NULL where chance alone would agree always.';
COMMENT ON COLUMN grader_agreement.kappa_low IS 'The lower end of the interval of 95% about kappa (Fleiss, Cohen and Everitt, 1969).';
COMMENT ON COLUMN grader_agreement.kappa_high IS 'Its upper end.';
COMMENT ON COLUMN grader_agreement.alpha IS 'Krippendorff''s alpha (ordinal) of the grades 0 to 3 on graded prompts, with the grader as one rater among the people; the same at every threshold.';
COMMENT ON COLUMN grader_agreement.human_unanimous IS 'Share of prompts with two labels or more on which all people agree.';
COMMENT ON COLUMN grader_agreement.human_pairwise IS 'Mean over those prompts of the share of pairs of people who agree.';
COMMENT ON COLUMN grader_agreement.human_majority IS 'Mean over those prompts of the share of people who are with the majority.';
COMMENT ON COLUMN grader_agreement.human_alpha IS 'The same of the people alone, over all labelled prompts.';
COMMENT ON COLUMN grader_agreement.mcnemar IS 'This candidate against each other one, on prompts that both graded and that have a majority: on how many only one of them is right, and the probability (McNemar''s exact test) of shares so uneven if both were equally good.';
