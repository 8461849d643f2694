-- The widest pair: the highest reward against the lowest, whatever the bands; equal rewards fall to a draw. So do
-- data sets of the best of n against the worst of n.
SELECT *, -reward AS chosen_order, reward AS rejected_order
FROM candidates
