CREATE TABLE controversy_agreement (
    threshold TINYINT NOT NULL,
    is_recipe_threshold BOOLEAN NOT NULL,
    labelled_prompts BIGINT NOT NULL,
    unmatched_prompts BIGINT NOT NULL,
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
    human_alpha DOUBLE
);
COMMENT ON TABLE controversy_agreement IS 'The grades against people''s, folded to 0/1 at every threshold, and the people among themselves (report, section 4.1.4).';
COMMENT ON COLUMN controversy_agreement.threshold IS 'Grades from this one on count as controversial.';
COMMENT ON COLUMN controversy_agreement.is_recipe_threshold IS 'Whether the recipe uses this threshold.';
COMMENT ON COLUMN controversy_agreement.labelled_prompts IS 'Prompts with at least one label.';
COMMENT ON COLUMN controversy_agreement.unmatched_prompts IS 'Of those, the ones that nobody was asked to grade: no graded source has them, or they were dropped.';
COMMENT ON COLUMN controversy_agreement.repeated_labels IS 'Labels that do not count, because the same person labelled the same prompt again later.';
COMMENT ON COLUMN controversy_agreement.graded_prompts IS 'Of those, the ones with a grade and a majority: the base of accuracy.';
COMMENT ON COLUMN controversy_agreement.tied_prompts IS 'Labelled prompts on which the people are split evenly.';
COMMENT ON COLUMN controversy_agreement.true_positives IS 'Grade and majority say controversial.';
COMMENT ON COLUMN controversy_agreement.false_positives IS 'Only the grade says controversial.';
COMMENT ON COLUMN controversy_agreement.true_negatives IS 'Neither says controversial.';
COMMENT ON COLUMN controversy_agreement.false_negatives IS 'Only the majority says controversial.';
COMMENT ON COLUMN controversy_agreement.accuracy IS 'Share of graded_prompts where grade and majority agree; NULL without any.';
COMMENT ON COLUMN controversy_agreement.accuracy_low IS 'The lower end of Wilson''s interval of 95% about accuracy.';
COMMENT ON COLUMN controversy_agreement.accuracy_high IS 'Its upper end.';
COMMENT ON COLUMN controversy_agreement.balanced_accuracy IS 'Mean of the shares of controversial and of other prompts that are graded so; NULL without prompts of either kind.';
COMMENT ON COLUMN controversy_agreement.kappa IS 'Cohen''s kappa of grade and majority: agreement beyond chance, 1 at most; NULL where chance alone would agree always.';
COMMENT ON COLUMN controversy_agreement.kappa_low IS 'The lower end of the interval of 95% about kappa (Fleiss, Cohen and Everitt, 1969).';
COMMENT ON COLUMN controversy_agreement.kappa_high IS 'Its upper end.';
COMMENT ON COLUMN controversy_agreement.alpha IS 'Krippendorff''s alpha (ordinal) of the grades 0 to 3 on graded prompts, with the grader as one rater among the people; the same at every threshold.';
COMMENT ON COLUMN controversy_agreement.human_unanimous IS 'Share of prompts with two labels or more on which all people agree.';
COMMENT ON COLUMN controversy_agreement.human_pairwise IS 'Mean over those prompts of the share of pairs of people who agree.';
COMMENT ON COLUMN controversy_agreement.human_majority IS 'Mean over those prompts of the share of people who are with the majority.';
COMMENT ON COLUMN controversy_agreement.human_alpha IS 'The same of the people alone, over all labelled prompts.';
