-- A grade is 0 to 3, or the answer is kept as unparsable.
SELECT candidate, prompt_id, grade, parsed_as
FROM grader_trials
WHERE (grade IS NULL) <> (parsed_as = 'unparsable')
    OR grade NOT BETWEEN 0 AND 3
    OR NOT regexp_full_match(parsed_as, '(json|last_object)(_after_thinking)?|unparsable')
