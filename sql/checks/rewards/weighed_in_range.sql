-- A reward that is weighed over labels lies between the least and the greatest of them, and their mass is a
-- probability.
SELECT completion_id, reward, score_mass
FROM rewards
WHERE label_logprobs IS NOT NULL AND (
    reward NOT BETWEEN list_min(list_transform(label_logprobs, lambda entry: entry.label::DOUBLE))
        AND list_max(list_transform(label_logprobs, lambda entry: entry.label::DOUBLE))
    OR score_mass NOT BETWEEN 0 AND 1.001)
