-- Which collections of the graded sources hold the controversial prompts? Shares are of the prompts with
-- a grade; prompts whose grade does not parse are on neither track.
-- Page: controversy_labels
SELECT
    dataset,
    source,
    count(*) AS licensed,
    count(grade) AS graded,
    count(*) FILTER (is_controversial) AS controversial,
    round(count(*) FILTER (is_controversial) / nullif(count(grade), 0), 4) AS controversial_share,
    round(avg(grade), 4) AS mean_grade
FROM licensed_prompts
LEFT JOIN controversy_labels USING (prompt_id)
WHERE track = 'graded'
GROUP BY dataset, source
ORDER BY controversial_share DESC NULLS LAST, dataset, source NULLS LAST
