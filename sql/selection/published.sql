-- The published rule (Apertus report, section 4.1.4; bands as the design words them). Chosen: drawn from the
-- candidates above every reference, else from quantile 1, else from the middle, else from the worst. Rejected:
-- drawn from the worst, else from the middle, else from the best. A further pair is drawn like the first.
SELECT *, band_rank AS chosen_order, 4 - band_rank AS rejected_order
FROM candidates
