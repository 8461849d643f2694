-- A grade is 0 to 3 and decides the flag, or the answer is kept as unparsable.
SELECT prompt_id, grade, is_controversial, parsed_as
FROM controversy_labels
WHERE (grade IS NULL) <> (parsed_as = 'unparsable')
    OR grade NOT BETWEEN 0 AND 3
    OR is_controversial IS DISTINCT FROM (grade >= $controversy_threshold)
    OR NOT regexp_full_match(parsed_as, '(json|last_object)(_after_thinking)?|unparsable')
