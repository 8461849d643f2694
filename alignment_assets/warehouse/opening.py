"""Which kind of database a run has, by what its recipe says under ``warehouse``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alignment_assets.warehouse.database import Database
from alignment_assets.warehouse.database_file import DatabaseFile
from alignment_assets.warehouse.lake import Lake


def database_of(settings: Mapping[str, Any]) -> Database:
    """Return the database with a run's `database_settings`; nothing is opened here."""
    return Lake(**settings) if "data" in settings else DatabaseFile(**settings)
