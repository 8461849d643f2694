-- No prompt of a sub-collection or source that the licence rule drops.
SELECT dataset, prompt_id, source, upstream_id
FROM licensed_prompts
WHERE len(subsets_of(source, upstream_id, $licence_excluded_subsets)) > 0
    OR list_has_any([source, dataset], $licence_excluded_sources::VARCHAR[])
