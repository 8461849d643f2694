"""The demo's graph with a fake engine, as `dg dev` loads it for the browser test."""

from __future__ import annotations

import os
from pathlib import Path

from alignment_assets.definitions import build_defs
from alignment_assets.host.paths import home_folder
from alignment_assets.recipe.load import load_recipe
from tests.support.fakes import FakeInference

recipe = load_recipe("demo")
seconds = float(os.environ.get("FAKE_SECONDS_PER_REQUEST", "0"))
log = Path(home_folder(recipe.name)).parent / "asked.jsonl"
defs = build_defs(recipe, {"inference": FakeInference(log=str(log), seconds_per_request=seconds)})
