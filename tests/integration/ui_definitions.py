"""The demo's graph with a fake engine, as `dg dev` loads it for the browser test."""

from __future__ import annotations

import os

from alignment_assets.definitions import build_defs
from alignment_assets.recipe.load import load_recipe
from alignment_assets.recipe.run import Run
from tests.support.fakes import FakeInference

run = Run.of(load_recipe("demo"))
seconds = float(os.environ.get("FAKE_SECONDS_PER_REQUEST", "0"))
log = run.home.parent / "asked.jsonl"
defs = build_defs(run, {"inference": FakeInference(log=str(log), seconds_per_request=seconds)})
