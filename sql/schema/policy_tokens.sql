CREATE TABLE policy_tokens (
    policy VARCHAR NOT NULL,
    prompt_id UUID NOT NULL,
    completion_id UUID NOT NULL,
    content_id UUID,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    missing_reason VARCHAR,
    tokenizer_fingerprint VARCHAR
);
COMMENT ON TABLE policy_tokens IS 'How many tokens each candidate completion and its prompt are to the policy, as a trainer makes the training row: by the policy''s tokenizer and chat template, without a system prompt of ours.';
COMMENT ON COLUMN policy_tokens.policy IS 'The policy: the partition.';
COMMENT ON COLUMN policy_tokens.prompt_id IS 'The prompt answered.';
COMMENT ON COLUMN policy_tokens.completion_id IS 'The candidate.';
COMMENT ON COLUMN policy_tokens.content_id IS 'The first 128 bits of the sha256 of tokenizer, conversation and text: what has the same is counted once. NULL where servers alone know the tokenizer.';
COMMENT ON COLUMN policy_tokens.prompt_tokens IS 'Tokens before the answer: of the conversation with the turn opened for it, as far as the whole begins alike; NULL with a reason.';
COMMENT ON COLUMN policy_tokens.completion_tokens IS 'Tokens of the whole conversation without those: the answer, what ends its turn and what the template puts after it; NULL with a reason.';
COMMENT ON COLUMN policy_tokens.missing_reason IS 'Why there are no counts; NULL where there are.';
COMMENT ON COLUMN policy_tokens.tokenizer_fingerprint IS 'Tokenizer, chat template, its arguments and template date, as one hash; NULL where servers alone know the tokenizer, and the counts are those of the engines that answered.';
