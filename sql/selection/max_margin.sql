-- The widest pair by the quantile reward, which is what QRPO trains on (Matrenok et al., "Quantile Reward Policy
-- Optimization", 2025): drawn from all with the highest quantile, against one of the lowest. Unlike in `best_worst`,
-- how far a reward is above the references does not count, so that a reward model's favourites are not chosen for
-- that alone.
SELECT *, -quantile AS chosen_order, quantile AS rejected_order
FROM candidates
