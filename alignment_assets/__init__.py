"""alignment_assets: a Dagster asset graph that turns prompts into preference-alignment data."""
