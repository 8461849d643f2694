"""alignment_assets: a Dagster asset graph that turns prompts into preference-alignment data.

Each folder is one concept and imports only folders above it in this list: host, recipe, warehouse,
pages, gpus, sources, inference, requests, assets, definitions, commands.
"""
