-- Whether it answers as a policy, whose completions are references, or as a model.
SELECT list_contains($completions_policies, $model) AS is_policy
