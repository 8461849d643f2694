-- Is one candidate for the grader better than another, or is it luck? Of the prompts that both graded, at the recipe's
-- threshold: on how many only one of them agrees with the majority of people, and how probable shares so uneven would
-- be if both were equally good (McNemar's exact test).
-- Page: grader_agreement
SELECT
    candidate,
    other.candidate AS other_candidate,
    other.prompts AS prompts,
    other.only_this_right AS only_candidate_right,
    other.only_that_right AS only_other_right,
    round(other.p, 4) AS p
FROM (
    SELECT candidate, unnest(mcnemar) AS other
    FROM grader_agreement
    WHERE is_recipe_threshold
)
WHERE candidate < other_candidate
ORDER BY p, candidate, other_candidate
