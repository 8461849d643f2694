CREATE TABLE origin_consent (
    origin_url VARCHAR NOT NULL,
    origin_domain VARCHAR,
    status VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    blocked_agents VARCHAR[] NOT NULL,
    site VARCHAR,
    fetched_at TIMESTAMP,
    snapshot_hash VARCHAR
);
COMMENT ON TABLE origin_consent IS 'What the sites of each origin say to the AI crawlers of the recipe (report, Appendix B).';
COMMENT ON COLUMN origin_consent.origin_url IS 'The origin as rows write it.';
COMMENT ON COLUMN origin_consent.origin_domain IS 'Its host; the first of several. NULL where it cannot be read.';
COMMENT ON COLUMN origin_consent.status IS 'blocked: at least one agent may not fetch the page or the site; refused_by_signal: robots.txt says no to training; on_blocked_list: on a list of the recipe. These refuse. admitted: robots.txt lets all agents in, or there is none (4xx). The others decide nothing: unreadable_origin; licence_to_look_at, robots.txt names a licence; not_robots_txt, what the site answered is none; no_snapshot. Of several the first named here counts, admitted last.';
COMMENT ON COLUMN origin_consent.reason IS 'The same in words, with the site.';
COMMENT ON COLUMN origin_consent.blocked_agents IS 'The agents that are blocked or told no, in the recipe''s order.';
COMMENT ON COLUMN origin_consent.site IS 'The host or listed domain that the status is from; NULL without evidence.';
COMMENT ON COLUMN origin_consent.fetched_at IS 'When its robots.txt was fetched, in UTC; NULL where the evidence does not tell.';
COMMENT ON COLUMN origin_consent.snapshot_hash IS 'sha256 of the robots.txt snapshot that was read; NULL without one.';
