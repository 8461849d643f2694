-- Every status is one that the table's description names, and agents are named where it is theirs.
SELECT *
FROM origin_consent
WHERE status NOT IN (
        'blocked', 'refused_by_signal', 'on_blocked_list', 'unreadable_origin', 'licence_to_look_at',
        'not_robots_txt', 'no_snapshot', 'admitted')
    OR (status IN ('blocked', 'refused_by_signal')) <> (len(blocked_agents) > 0)
