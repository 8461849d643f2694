-- No prompt of a sub-collection that the licence rule drops.
SELECT prompt_id, source, upstream_id
FROM licensed_prompts
WHERE len(list_filter($licence_excluded_subsets, lambda subset: regexp_matches(
    lower(' ' || coalesce(source, '') || ' ' || coalesce(upstream_id, '') || ' '),
    '[^a-z0-9]' || regexp_escape(lower(subset)) || '[^a-z0-9]'))) > 0
