"""What an asset is made of has to be there: a table that was never made is not an empty one."""

from __future__ import annotations

from collections.abc import Iterator

from dagster import AssetExecutionContext

from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.records import last_record
from alignment_assets.warehouse.resource import Staging, WarehouseError


class NeverMade(WarehouseError):
    """A table cannot be made, as tables that it is made of were not; the message names them."""


def check_upstream(context: AssetExecutionContext, staging: Staging, recipe: str) -> None:
    """Raise `NeverMade` unless every table that a step's rows are made of has been made.

    It has if it has rows, for the same model or policy where it is divided by them, or if its last
    materialization says that it rightly has none.

    Args:
        context: the step, which says what its asset is made of.
        staging: the new rows.
        recipe: the recipe's name; what another one made does not count.
    """
    missing = sorted(_never_made(context, staging, recipe))
    if missing:
        raise NeverMade(
            f"{staging.label}: made of {', '.join(missing)}, which "
            f"{'was' if len(missing) == 1 else 'were'} never made; the old rows stay. Materialize "
            f"{'it' if len(missing) == 1 else 'them'} first, then this again"
        )


def _never_made(context: AssetExecutionContext, staging: Staging, recipe: str) -> Iterator[str]:
    staging.open()
    asset = context.assets_def
    for key in asset.dependency_keys:
        table = key.to_user_string()
        columns = {column.name for column in sql_files.tables()[table].columns}
        same = {name: value for name, value in staging.partition.items() if name in columns}
        where = " AND ".join(f"{name} = ${name}" for name in same) or "true"
        if staging.connection.execute(f"FROM {table} WHERE {where} LIMIT 1", same).fetchone():
            continue
        partition = next(iter(same.values()), None)
        record = last_record(context.instance, table, partition)
        if record is None or (record.recipe, record.database) != (recipe, staging.created_at()):
            yield f"{table}[{partition}]" if partition else table
