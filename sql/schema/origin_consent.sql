CREATE TABLE origin_consent (
    origin_url VARCHAR NOT NULL,
    origin_domain VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    blocked_agents VARCHAR[] NOT NULL,
    snapshot_hash VARCHAR
);
COMMENT ON TABLE origin_consent IS 'What each origin''s robots.txt says to the AI crawlers of the recipe (report, Appendix B).';
COMMENT ON COLUMN origin_consent.origin_url IS 'The page a prompt was taken from.';
COMMENT ON COLUMN origin_consent.origin_domain IS 'Its host.';
COMMENT ON COLUMN origin_consent.status IS 'admitted; blocked, if at least one agent may fetch neither the page nor the site; or no_snapshot, if its robots.txt is not at hand.';
COMMENT ON COLUMN origin_consent.blocked_agents IS 'The agents that are blocked, in the recipe''s order.';
COMMENT ON COLUMN origin_consent.snapshot_hash IS 'sha256 of the robots.txt snapshot that was read; NULL without one.';
