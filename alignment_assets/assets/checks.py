"""Asset checks, made from ``sql/checks``: one for each rule of a table.

The same rules run inside each asset before it publishes; a check shows that they hold for what is
in the database now, all partitions together.
"""

from collections.abc import Iterator

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSpec,
    multi_asset_check,
)

from alignment_assets.recipe.run import Run
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.resource import Warehouse, rules_of, shown_row

SHOWN_ROWS = 5


def table_checks(run: Run) -> list[AssetChecksDefinition]:
    """Build the checks of every table that has rules."""
    return [_checks_of(run, table) for table in sql_files.tables() if rules_of(table)]


def describe_rule(rule: str) -> str:
    """Return the comment that a rule's file starts with."""
    lines = sql_files.read_sql("checks", rule).splitlines()
    return " ".join(line.removeprefix("--").strip() for line in lines if line.startswith("--"))


def _checks_of(run: Run, table: str) -> AssetChecksDefinition:
    rules = {rule.split("/", 1)[1]: rule for rule in rules_of(table)}

    @multi_asset_check(
        name=f"{table}_rules",
        specs=[
            AssetCheckSpec(name, asset=table, description=describe_rule(rule))
            for name, rule in rules.items()
        ],
        can_subset=True,
    )
    def check(
        context: AssetCheckExecutionContext, warehouse: Warehouse
    ) -> Iterator[AssetCheckResult]:
        with warehouse.read() as connection:
            for key in sorted(context.selected_asset_check_keys):
                query = sql_files.read_sql("checks", rules[key.name])
                offending = connection.execute(
                    query, sql_files.named_parameters(query, run.recipe.settings())
                ).fetchmany(SHOWN_ROWS + 1)
                shown = [shown_row(row)[:300] for row in offending[:SHOWN_ROWS]]
                yield AssetCheckResult(
                    passed=not offending,
                    check_name=key.name,
                    asset_key=key.asset_key,
                    metadata={"offending_rows": shown} if shown else None,
                )

    return check
