"""Rows that were put into tables by hand, entered as makings of assets that belong together."""

from __future__ import annotations

from collections.abc import Collection

from alignment_assets.definitions import build_defs
from alignment_assets.recipe.run import Run
from alignment_assets.warehouse.lineage import PARTITION_COLUMNS, Lineage, TablePart, lineage_rows
from alignment_assets.warehouse.resource import Warehouse


def take_as_made(warehouse: Warehouse, run: Run, tables: Collection[str] | None = None) -> None:
    """Enter what stands in tables as if assets had made it of what stands above.

    Args:
        warehouse: the database.
        run: whose recipe says which parts there are.
        tables: those tables alone; None for all.
    """
    settings, members = run.recipe.settings(), run.recipe.members
    for key in build_defs(run).resolve_asset_graph().toposorted_asset_keys:
        table = key.to_user_string()
        if tables is not None and table not in tables:
            continue
        column = PARTITION_COLUMNS.get(table)
        for partition in members[column] if column else [None]:
            part = TablePart(table, partition)
            with warehouse.read() as connection:
                inputs = Lineage(connection, settings).read(part)
            with warehouse.get_connection() as connection:
                ((rows,),) = connection.execute(
                    f"SELECT count(*) FROM {table} "
                    f"WHERE {column or 'NULL'} IS NOT DISTINCT FROM $partition",
                    {"partition": partition},
                ).fetchall()
                connection.register("made", lineage_rows(part, rows, f"{rows}-0", inputs))
                connection.execute(
                    "DELETE FROM lineage WHERE table_name = $table "
                    "AND partition IS NOT DISTINCT FROM $partition",
                    {"table": table, "partition": partition},
                )
                connection.execute("INSERT INTO lineage BY NAME FROM made")
