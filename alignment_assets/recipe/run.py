"""A run: a recipe, and the folder that holds what comes of it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment_assets.host.paths import home_folder
from alignment_assets.recipe.environment import limit_from_environment
from alignment_assets.recipe.model import Recipe
from alignment_assets.recipe.spool_place import folder_of_copies, is_address

# PostgreSQL takes 63 letters.
SCHEMA_LENGTH = 48


@dataclass(frozen=True)
class Run:
    """A recipe and its home; nothing is created here.

    Attributes:
        recipe: what the user says.
        home: the folder of the database, the spool and all else that the run leaves.
        suffix: tells places of a small run from the whole run's, where they are not in the home.
    """

    recipe: Recipe
    home: Path
    suffix: str = ""

    @classmethod
    def of(cls, recipe: Recipe) -> Run:
        """Return the run of a recipe in the home that the environment gives it.

        A limit that the environment gives stands over the recipe's, in a home and a spool of its
        own.

        Raises:
            LimitError: it is none.
        """
        home, limit = home_folder(recipe.name), limit_from_environment()
        if limit is None:
            return cls(recipe, home)
        small = f"limit-{limit}"
        own: dict[str, Any] = {"limit": limit}
        if recipe.spool is not None:
            own["spool"] = f"{recipe.spool}/{small}"
        return cls(recipe.model_copy(update=own), home / small, f"-{small}")

    @property
    def database(self) -> Path:
        """The DuckDB file, of a run that has one."""
        return self.home / "alignment.duckdb"

    @property
    def database_uri(self) -> str:
        """Where the database is, for Dagster's UI; no password is in it."""
        lake = self._lake_settings
        return f"ducklake:{lake['database']}" if lake else self.database.resolve().as_uri()

    @property
    def database_settings(self) -> dict[str, Any]:
        """What a `Database` of the run is made with: its place, the limits, the members."""
        recipe = self.recipe
        limits = recipe.warehouse.model_dump(exclude_none=True, exclude={"ducklake"})
        if recipe.warehouse.temp_directory:
            limits["temp_directory"] = str(recipe.resolve(recipe.warehouse.temp_directory))
        return {
            "database": str(self.database),
            "connection_config": limits,
            "recipe": recipe.name,
            "members": recipe.members,
            **self._lake_settings,
        }

    @property
    def _lake_settings(self) -> dict[str, str]:
        lake = self.recipe.warehouse.ducklake
        if lake is None:
            return {}
        kind, _, named = lake.catalog.partition(":")
        if kind == "sqlite":
            file = self.recipe.resolve(named) if named else self.home / "catalog.sqlite"
            own = file.with_name(f"{file.stem}{self.suffix}{file.suffix}") if named else file
            catalog = f"sqlite:{own.absolute()}"
        else:
            catalog = lake.catalog
        name = f"{self.recipe.name}{self.suffix}"
        if lake.data is None:
            data = str((self.home / "lake").absolute())
        elif lake.data.startswith("s3://"):
            data = f"{lake.data.rstrip('/')}/{name}"
        else:
            data = str(self.recipe.resolve(lake.data) / name)
        return {
            "database": catalog,
            "data": data,
            "catalog_schema": _schema_of(name),
            "folder": str(self.home),
        }

    @property
    def shared_lock(self) -> str | None:
        """The PostgreSQL database whose advisory locks all machines of the run take, for libpq.

        None for a run of one host.
        """
        lake = self.recipe.warehouse.ducklake
        if lake is None or not lake.catalog.startswith("postgres:"):
            return None
        return lake.catalog.removeprefix("postgres:")

    @property
    def spool(self) -> Path:
        """The folder of the engines' answers; of those on object storage, the folder of copies."""
        said = self.recipe.spool
        if said is None:
            return self.home / "spool"
        return folder_of_copies(self.home, said) if is_address(said) else self.recipe.resolve(said)

    @property
    def exports(self) -> Path:
        """The folder of what trainers take, one folder a policy."""
        return self.home / "exports"

    @property
    def work(self) -> Path:
        """The folder of requests that are on their way to engines."""
        return self.home / "work"

    @property
    def staging(self) -> Path:
        """The folder of what outgrows memory."""
        return self.home / "staging"

    @property
    def logs(self) -> Path:
        """The folder of the engines' logs."""
        return self.home / "logs"

    @property
    def revisions(self) -> Path:
        """The file that records the commits of hub repositories."""
        return self.home / "revisions.json"

    @property
    def file_hashes(self) -> Path:
        """The file that records the hashes of weights."""
        return self.home / "file_hashes.json"


def _schema_of(name: str) -> str:
    """Return a schema of PostgreSQL for a name, which no other name has."""
    plain = f"lake_{re.sub(r'[^a-z0-9]+', '_', name)}"
    if plain == f"lake_{name}" and len(plain) <= SCHEMA_LENGTH:
        return plain
    return f"{plain[:SCHEMA_LENGTH]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
