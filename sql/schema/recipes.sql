CREATE TABLE recipes (
    name VARCHAR NOT NULL,
    description VARCHAR NOT NULL,
    fingerprint VARCHAR NOT NULL,
    settings JSON NOT NULL
);
COMMENT ON TABLE recipes IS 'The recipe as this was last made. The sources start from it; each table is stale by what it takes of a recipe, not by this.';
COMMENT ON COLUMN recipes.name IS 'Of the recipe; a database belongs to one.';
COMMENT ON COLUMN recipes.description IS 'The sentence that it has for its readers.';
COMMENT ON COLUMN recipes.fingerprint IS 'sha256 of all that it says, defaults included.';
COMMENT ON COLUMN recipes.settings IS 'All that it says, defaults included, but for the backends of models: where a model runs names no request.';
