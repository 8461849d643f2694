-- The pairs as the published models' training sets were made (swiss-ai/posttraining), where that differs from the
-- report's words (section 4.1.4). Chosen: drawn from all candidates of quantile 1, so that the best reference may
-- be chosen where others are above it; else from the highest quantile of the middle, else of the worst. Rejected:
-- drawn from the highest quantile of the worst, else of the middle, else of the rest. A further pair takes no
-- candidate twice: chosen is drawn from quantiles of at least 0.5, else from those below; rejected the other way
-- round.
SELECT
    *,
    CASE
        WHEN $pair_index > 0 THEN CASE WHEN quantile >= 0.5 THEN 0 ELSE 1 END
        -- By the tier, and in it by the quantile. (`greatest` takes a third longer.)
        ELSE CASE WHEN band_rank = 1 THEN 2 ELSE band_rank END - quantile / 2
    END AS chosen_order,
    CASE
        WHEN $pair_index > 0 THEN CASE WHEN quantile >= 0.5 THEN 1 ELSE 0 END
        ELSE CASE WHEN band_rank = 1 THEN -2 ELSE -band_rank::INTEGER END - quantile / 2
    END AS rejected_order
FROM candidates
ANTI JOIN (SELECT chosen AS candidate FROM taken UNION ALL SELECT rejected FROM taken) AS used USING (candidate)
