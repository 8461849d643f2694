"""What the UI loads, and what it calls it: ``workspace.yaml`` says so to whoever starts Dagster."""

from __future__ import annotations

MODULE, LOCATION = "alignment_assets.definitions", "alignment_assets"
WORKSPACE = f"""\
load_from:
  - python_module:
      module_name: {MODULE}
      location_name: {LOCATION}
"""
