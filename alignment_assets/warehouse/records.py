"""What a materialization records of the rows that it put in place, in Dagster's metadata.

Rows carry no mark of who made them when. Dagster's last materialization of a table or partition
does: by what recipe, in which database, how many, and with what settings of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dagster import AssetKey, AssetMaterialization, AssetRecordsFilter, DagsterInstance

_ROWS, _PARTITION_ROWS = "dagster/row_count", "dagster/partition_row_count"
_SETTINGS = "settings of "


@dataclass(frozen=True)
class Record:
    """What is recorded of a table's or partition's rows.

    Attributes:
        recipe: the name of the recipe that they were made by.
        database: when the database that they are in was created.
        rows: how many they were.
        settings: hashes of the settings that they alone were made with, by whose those are; see
            `alignment_assets.recipe.settings.partition_settings`.
    """

    recipe: str
    database: str
    rows: int
    settings: Mapping[str, str] = field(default_factory=dict)

    def metadata(self, *, partitioned: bool) -> dict[str, Any]:
        """Return the entries of a materialization that say so."""
        return {
            _PARTITION_ROWS if partitioned else _ROWS: self.rows,
            "recipe": self.recipe,
            "database_created_at": self.database,
            **{f"{_SETTINGS}{whose}": value for whose, value in self.settings.items()},
        }


def last_record(instance: DagsterInstance, table: str, partition: str | None) -> Record | None:
    """Return what is recorded of a table's or partition's last materialization; None without one.

    What an earlier version did not record is empty.
    """
    wanted = AssetRecordsFilter(
        AssetKey(table), asset_partitions=[partition] if partition else None
    )
    found = instance.fetch_materializations(wanted, limit=1).records
    if not found or found[0].asset_materialization is None:
        return None
    return record_of(found[0].asset_materialization)


def record_of(made: AssetMaterialization) -> Record:
    """Return what a materialization records; what an earlier version did not record is empty."""
    said = {key: value.value for key, value in made.metadata.items()}
    rows = said.get(_PARTITION_ROWS if made.partition else _ROWS)
    return Record(
        str(said.get("recipe", "")),
        str(said.get("database_created_at", "")),
        rows if isinstance(rows, int) else 0,
        {
            key.removeprefix(_SETTINGS): str(value)
            for key, value in said.items()
            if key.startswith(_SETTINGS)
        },
    )
