-- A stronger model's answer over a weaker model's (Geng et al., "The Delta Learning Hypothesis", 2025; OLMo 3 makes its
-- preference data so). The recipe's `selection.model_order` names models, the strongest first: those of its first
-- half are chosen from, the strongest that has something to offer, and the others rejected from, the weakest. Models
-- that it does not name have no part. As for every strategy the rejected one has a lower reward, which the source
-- does not ask for.
SELECT
    *,
    CASE WHEN model_place <= len($selection_model_order) / 2 THEN model_place END AS chosen_order,
    CASE WHEN model_place > len($selection_model_order) / 2 THEN -model_place END AS rejected_order
FROM candidates
