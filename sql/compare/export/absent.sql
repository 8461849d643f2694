-- Why an export, whose pairs are `own`, has none of the pairs in `other` that it lacks: that it has others of the
-- prompt can be seen, no more.
SELECT
    other.pair_id,
    CASE
        WHEN other.prompt_id IN (SELECT prompt_id FROM own) THEN 'fewer_pairs'
        ELSE 'not_told_by_an_export'
    END AS reason
FROM other
ANTI JOIN own USING (pair_id)
