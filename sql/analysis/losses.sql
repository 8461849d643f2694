-- What was lost on the way from sources to training sets, and how much of it may be lost before a step refuses?
-- The largest shares first.
SELECT
    asset,
    part,
    track,
    loss,
    reason,
    rows AS rows_lost,
    of_rows,
    round(share, 4) AS share,
    allowed,
    example
FROM losses
ORDER BY losses.share DESC, asset, part NULLS FIRST, track NULLS FIRST, loss, reason
