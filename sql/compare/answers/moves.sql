-- Where changed pairs have another chosen completion: whose it was in A, and whose it is in B.
SELECT policy, chosen_model_a AS from_model, chosen_model_b AS to_model, count(*) AS pairs
FROM compared
WHERE kind = 'changed' AND is_chosen_other
GROUP BY policy, from_model, to_model
ORDER BY policy, pairs DESC, from_model, to_model
