-- The published rule among the policy's own samples alone: pairs that no other model has a part in, as in on-policy
-- DPO (Guo et al., "Direct Language Model Alignment from Online AI Feedback", 2024).
SELECT *, band_rank AS chosen_order, 4 - band_rank AS rejected_order
FROM candidates
WHERE is_reference
