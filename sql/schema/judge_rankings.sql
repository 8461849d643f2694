CREATE TABLE judge_rankings (
    policy VARCHAR NOT NULL,
    prompt_id UUID NOT NULL,
    completion_id UUID NOT NULL,
    score DOUBLE,
    score_position INTEGER,
    wins DOUBLE,
    comparisons STRUCT(opponent_id UUID, logprob DOUBLE, opponent_logprob DOUBLE, orders BIGINT)[],
    position INTEGER,
    rank_reward DOUBLE
);
COMMENT ON TABLE judge_rankings IS 'Each controversial prompt''s candidates for a policy in the judge''s order; the rank is the reward that selection uses there (report, section 4.1.4).';
COMMENT ON COLUMN judge_rankings.policy IS 'The policy: the partition.';
COMMENT ON COLUMN judge_rankings.prompt_id IS 'The prompt.';
COMMENT ON COLUMN judge_rankings.completion_id IS 'The candidate.';
COMMENT ON COLUMN judge_rankings.score IS 'Its reward from rewards; NULL where it has none, which leaves it unranked.';
COMMENT ON COLUMN judge_rankings.score_position IS 'Its place by score, 1 is best; ties fall by draw.';
COMMENT ON COLUMN judge_rankings.wins IS 'Comparisons won, a draw counting half; NULL where it was not compared.';
COMMENT ON COLUMN judge_rankings.comparisons IS 'For each opponent: the mean log-probability of either over the orders that were answered.';
COMMENT ON COLUMN judge_rankings.position IS 'Its final place, 1 is best: the compared by wins, then score; the others after them by score.';
COMMENT ON COLUMN judge_rankings.rank_reward IS 'The final rank counted from the bottom (20 for the best of 20); equal scores among those not compared share their mean rank.';
