-- Temporary macros that every connection of the warehouse defines.
-- Hashes are sha256 over parts joined by the unit separator (U+001F), so that ('ab','c') and
-- ('a','bc') differ. Ids are the first 128 bits of them.

-- A name for some parts: one value for the same parts, whatever the machine or the thread count.
CREATE OR REPLACE TEMP MACRO joined_parts(parts) AS
    array_to_string(list_transform(parts, lambda part: coalesce(part, chr(30))), chr(31));
CREATE OR REPLACE TEMP MACRO content_hash(parts) AS sha256(joined_parts(parts));

-- The id that a hash gives. Ids have the same order as their hashes.
CREATE OR REPLACE TEMP MACRO as_id(hashed) AS left(hashed, 32)::UUID;

-- What names a completion, of which `completion_id` is the first half. Requests go by the whole hash.
CREATE OR REPLACE TEMP MACRO completion_hash(prompt_hash, model, variant, sample_index) AS
    content_hash([prompt_hash, model, variant, sample_index::VARCHAR]);

-- A reproducible draw for a row, by its hash or id: a sortable, uniformly distributed text. It is the content hash of
-- the three, put together in half the time.
CREATE OR REPLACE TEMP MACRO sample_key(seed, purpose, hashed) AS
    sha256(seed::VARCHAR || chr(31) || purpose || chr(31) || hashed);

-- The same draw as an index in 0 .. size-1 (52 bits of it, so the bias is below 1e-9).
CREATE OR REPLACE TEMP MACRO sampled_index(seed, purpose, hashed, size) AS
    (('0x' || left(sample_key(seed, purpose, hashed), 13))::UBIGINT % size)::BIGINT;

-- A request is known by its content: this is its id. `about` has the hashes of the rows that are asked about,
-- `asked` is the hash of the texts that are shown.
CREATE OR REPLACE TEMP MACRO request_hash(about, task, fingerprint, asked, sampling, answer_schema) AS
    as_id(content_hash([about, task, fingerprint, asked, sampling, answer_schema]));

-- A training row by its content, as a tokenizer has it: what has the same is counted once. NULL without a tokenizer.
CREATE OR REPLACE TEMP MACRO training_row_id(tokenizer, messages_hash, text_hash) AS
    as_id(sha256(tokenizer || chr(31) || messages_hash || chr(31) || text_hash));

-- A conversation with our system prompt before it; a system message of its own is kept, after ours.
-- One message holds both, because many chat templates take only one.
CREATE OR REPLACE TEMP MACRO with_system(system_prompt, messages) AS
    CASE
        WHEN system_prompt IS NULL THEN messages
        WHEN messages[1].role = 'system' THEN
            [{'role': 'system', 'content': system_prompt || chr(10) || chr(10) || messages[1].content}]
            || messages[2:]
        ELSE [{'role': 'system', 'content': system_prompt}] || messages
    END;

-- A conversation for a model whose chat template has no place for a system message: its text comes before the first
-- user message's.
CREATE OR REPLACE TEMP MACRO prepended_to_user(messages) AS
    CASE
        WHEN messages[1].role <> 'system' THEN messages
        WHEN messages[2].role = 'user' THEN
            [{'role': 'user', 'content': messages[1].content || chr(10) || chr(10) || messages[2].content}]
            || messages[3:]
        ELSE [{'role': 'user', 'content': messages[1].content}] || messages[2:]
    END;

-- A conversation as plain text, for a judge to read.
CREATE OR REPLACE TEMP MACRO as_transcript(messages) AS
    CASE
        WHEN len(messages) = 1 THEN messages[1].content
        ELSE array_to_string(
            list_transform(messages, lambda message: upper(message.role) || ': ' || message.content),
            chr(10) || chr(10))
    END;

-- A template with texts put in for its placeholders, in one pass: what the texts hold is left alone. `texts` is a
-- MAP by the placeholders' names; what is none of them stays as it is. NULL if a text is.
CREATE OR REPLACE TEMP MACRO filled(template, texts) AS
    CASE WHEN len(list_filter(map_values(texts), lambda text: text IS NULL)) = 0 THEN
        array_to_string(list_transform(
            range(1, len(string_split_regex(template, '\{[A-Za-z_][A-Za-z0-9_]*\}')) + 1),
            lambda place: string_split_regex(template, '\{[A-Za-z_][A-Za-z0-9_]*\}')[place] || coalesce(
                texts[regexp_extract_all(template, '\{([A-Za-z_][A-Za-z0-9_]*)\}', 1)[place]],
                regexp_extract_all(template, '\{[A-Za-z_][A-Za-z0-9_]*\}')[place],
                '')), '')
    END;

-- What a grader or judge is asked: an empty system prompt is no message.
CREATE OR REPLACE TEMP MACRO asked_with(system, question) AS
    CASE WHEN system = '' THEN [] ELSE [{'role': 'system', 'content': system}] END
    || [{'role': 'user', 'content': question}];

-- Characters in a conversation: what engines are asked first is what is long.
CREATE OR REPLACE TEMP MACRO conversation_length(messages) AS
    list_sum(list_transform(messages, lambda message: length(message.content)));

-- Who is compared for a policy: the scored and unscored candidates of each controversial prompt, by their
-- place in the order of scores; equal scores are ordered by a draw. Without a score there is no place. The
-- tables are given by their names, 'rewards' and 'alignment_prompts': a macro may not read one that is made
-- after it.
CREATE OR REPLACE TEMP MACRO controversial_candidates(rewards, prompts, seed, models, policy) AS TABLE
    WITH candidates AS (
        SELECT
            prompt_id,
            completion_id,
            completion_hash(prompt_hash, model, variant, sample_index) AS completion_hash,
            reward AS score
        FROM query_table(rewards) AS scored
        LEFT JOIN (SELECT prompt_id, prompt_hash FROM query_table(prompts)) AS asked USING (prompt_id)
        WHERE track = 'controversial' AND (list_contains(models, model) OR model = policy)
    )
    SELECT
        *,
        CASE WHEN score IS NOT NULL THEN row_number() OVER (
            PARTITION BY prompt_id
            ORDER BY score DESC NULLS LAST, sample_key(seed, 'ranking', completion_hash), completion_id)
        END AS score_position
    FROM candidates;

-- Which of some sub-collections a row belongs to: those that are a part of its source or id, between
-- characters that are no letter or digit.
CREATE OR REPLACE TEMP MACRO subsets_of(source, upstream_id, subsets) AS
    list_filter(subsets, lambda subset: regexp_matches(
        ' ' || lower(coalesce(source, '')) || ' ' || lower(coalesce(upstream_id, '')) || ' ',
        '[^a-z0-9]' || regexp_escape(lower(subset)) || '[^a-z0-9]'));

-- Whether a status of origin_consent puts rows out, whatever else is known of them.
CREATE OR REPLACE TEMP MACRO refuses(status) AS
    coalesce(status IN ('blocked', 'refused_by_signal', 'on_blocked_list'), false);

-- What the rules of some sub-collections decide together: of several a refusal counts. NULL without any.
CREATE OR REPLACE TEMP MACRO decided_by_subset(subsets, rules) AS
    list_max(list_transform(subsets, lambda subset: rules[subset]));

-- What decides whether a row may be used: what its origin says, a list of domains, the rule of its
-- sub-collection, the rule of its source or of all unknown origins, or nothing.
CREATE OR REPLACE TEMP MACRO consent_basis(status, of_subset, of_source) AS
    CASE
        WHEN status IN ('admitted', 'blocked', 'refused_by_signal') THEN 'robots_txt'
        WHEN status = 'on_blocked_list' THEN 'blocked_list'
        WHEN of_subset IS NOT NULL THEN 'subset_rule'
        WHEN of_source IS NOT NULL THEN 'source_rule'
        ELSE 'no_rule'
    END;

-- The form by which texts are compared, and are empty or not: without what shows nothing (controls that are no
-- white space, and what Unicode says to ignore), composed (NFC), white-space runs as one space, stripped. Prompts'
-- hashes go by the same form (`alignment_assets.sources.texts.normal_text`).
CREATE OR REPLACE TEMP MACRO normal_text(text) AS
    trim(regexp_replace(
        nfc_normalize(regexp_replace(
            text,
            '[\x00-\x08\x0e-\x1b\x7f-\x{84}\x{86}-\x{9f}\x{ad}\x{34f}\x{61c}\x{115f}\x{1160}\x{17b4}\x{17b5}'
            || '\x{180b}-\x{180f}\x{200b}-\x{200f}\x{202a}-\x{202e}\x{2060}-\x{206f}\x{2800}\x{3164}'
            || '\x{fe00}-\x{fe0f}\x{feff}\x{ffa0}\x{fff0}-\x{fffb}\x{1bca0}-\x{1bca3}\x{1d173}-\x{1d17a}'
            || '\x{e0000}-\x{e0fff}]+',
            '', 'g')),
        -- A single space stays as it is: replacing each would take seven times as long.
        '[\t-\r\x1c-\x1f\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]'
        || '[\t-\r\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]*'
        || '| [\t-\r\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]+',
        ' ', 'g'));
-- Its hash, a number, which is the same in every version of DuckDB.
CREATE OR REPLACE TEMP MACRO normal_hash(text) AS md5_number_lower(normal_text(text));

-- A text without white space around it.
CREATE OR REPLACE TEMP MACRO stripped(text) AS
    regexp_replace(text, '^[\t-\r\x1c-\x1f\x{85}\pZ]+|[\t-\r\x1c-\x1f\x{85}\pZ]+$', '', 'g');

-- What a model that thinks aloud says in the end: the text after its last </think>, without thoughts that do not
-- end. The opening tag may be missing, because many chat templates write it.
CREATE OR REPLACE TEMP MACRO after_thinking(text) AS
    CASE
        WHEN contains(text, '</think>')
            THEN regexp_replace(string_split(string_split(text, '</think>')[-1], '<think>')[1], '^\s+', '')
        ELSE string_split(text, '<think>')[1]
    END;
-- And what it has thought; NULL where it does not.
CREATE OR REPLACE TEMP MACRO thinking(text) AS
    CASE WHEN contains(text, '<think>') OR contains(text, '</think>') THEN
        trim(concat_ws(
            chr(10),
            CASE WHEN contains(text, '</think>') THEN regexp_replace(
                array_to_string(string_split(text, '</think>')[:-2], '</think>'), '^\s*<think>', '') END,
            nullif(array_to_string(string_split(string_split(text, '</think>')[-1], '<think>')[2:], '<think>'), '')
        ), chr(10) || ' ')
    END;

-- A JSON object at the start of a text, as a regular expression: objects in it up to three levels deep.
CREATE OR REPLACE TEMP MACRO nested_object() AS
    '^(?s:\{(?:[^{}"]|"(?:[^"\\]|\\.)*"|\{(?:[^{}"]|"(?:[^"\\]|\\.)*"|\{(?:[^{}"]|"(?:[^"\\]|\\.)*"|\{(?:'
    || '[^{}"]|"(?:[^"\\]|\\.)*")*\})*\})*\})*\})';

-- The JSON objects in a text, each with its place, by their opening braces (the last 100 of them), up to four
-- levels deep.
CREATE OR REPLACE TEMP MACRO json_objects(text) AS
    list_filter(
        list_transform(
            range(greatest(2, len(string_split(text, '{')) - 99), len(string_split(text, '{')) + 1),
            lambda place: {
                'start': length(array_to_string(string_split(text, '{')[:place - 1], '{')),
                'object': regexp_extract('{' || array_to_string(string_split(text, '{')[place:], '{'), nested_object())
            }),
        lambda found: found.object <> '' AND json_valid(found.object));
