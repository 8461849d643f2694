"""Asset checks, made from ``sql/checks``: one for each rule of a table.

The same rules run inside each asset before it publishes; a check shows that they hold for what is
in the database now, all partitions together. `LIMITS` shows with numbers that no more is lost than
the recipe allows, and `BELONGS` that rows were made of what stands in the tables above now: of the
run's partition, or of all if a run has none.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb
from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    BetaWarning,
    MetadataValue,
    build_metadata_bounds_checks,
    multi_asset_check,
)

from alignment_assets.assets.factory import message_first
from alignment_assets.recipe.run import Run
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.lineage import PARTITION_COLUMNS, Lineage, TablePart, upstream_of
from alignment_assets.warehouse.losses import find_losses, judge, shares
from alignment_assets.warehouse.removed import hide_removed
from alignment_assets.warehouse.resource import Warehouse, rules_of, shown_row

warnings.filterwarnings("ignore", "Function `build_metadata_bounds_checks`", BetaWarning)

SHOWN_ROWS = 5
BELONGS = "belongs_together"
LIMITS = "within_limits"
PARTITION_TAG = "dagster/partition"


def table_checks(run: Run) -> list[AssetChecksDefinition]:
    """Build the checks of every table that has rules."""
    return [
        _checks_of(run, table)
        for table in sql_files.tables()
        if rules_of(table) or upstream_of(table) or table in sql_files.sql_names("losses")
    ]


def bounds_checks(run: Run) -> Sequence[AssetChecksDefinition]:
    """Build the checks of figures that asset pages show, where the recipe bounds them."""
    least = run.recipe.controversy.min_accuracy
    if least is None:
        return []
    return build_metadata_bounds_checks(
        assets=[AssetKey("controversy_agreement")],
        severity=AssetCheckSeverity.WARN,
        metadata_key="agreement accuracy",
        min_value=least,
    )


def describe_rule(rule: str) -> str:
    """Return the comment that a rule's file starts with, and when the rule is enforced."""
    return f"{sql_files.comment(sql_files.read_sql('checks', rule))} {_ENFORCED}"


def _checks_of(run: Run, table: str) -> AssetChecksDefinition:
    rules = {rule.split("/", 1)[1]: rule for rule in rules_of(table)}
    edges = upstream_of(table)
    partitions = _partitions(run, table)
    counted = table in sql_files.sql_names("losses")

    @multi_asset_check(
        name=f"{table}_rules",
        specs=[
            AssetCheckSpec(name, asset=table, description=describe_rule(rule))
            for name, rule in rules.items()
        ]
        + ([AssetCheckSpec(LIMITS, asset=table, description=_LIMITS)] if counted else [])
        + ([AssetCheckSpec(BELONGS, asset=table, description=_BELONGS)] if edges else []),
        can_subset=True,
    )
    def check(
        context: AssetCheckExecutionContext, warehouse: Warehouse
    ) -> Iterator[AssetCheckResult]:
        with message_first(), warehouse.read() as connection:
            hide_removed(connection, run.recipe.members)  # rows that nothing makes again
            for key in sorted(context.selected_asset_check_keys):
                if key.name == LIMITS:
                    losses = find_losses(connection, table, run.recipe.settings())
                    judged = judge(losses, run.recipe.limits.allowed)
                    too_much = [one.text for one in judged if one.is_too_much]
                    yield AssetCheckResult(
                        passed=not too_much,
                        check_name=key.name,
                        asset_key=key.asset_key,
                        metadata={
                            "kinds of loss": len(judged),
                            "offending": len(too_much),
                            **shares(judged),
                            "too_much": too_much[:SHOWN_ROWS],
                        },
                    )
                    continue
                if key.name == BELONGS:
                    made = context.run.tags.get(PARTITION_TAG)
                    lineage = Lineage(connection, run.recipe.settings())
                    looked_at = [made] if made in partitions else partitions
                    misfits = [
                        misfit.text
                        for partition in looked_at
                        for misfit in lineage.misfits_of(TablePart(table, partition))
                    ]
                    yield AssetCheckResult(
                        passed=not misfits,
                        check_name=key.name,
                        asset_key=key.asset_key,
                        # Nothing in the rows is wrong: what is above them was made again.
                        severity=AssetCheckSeverity.WARN,
                        metadata={
                            "partitions checked": len(looked_at),
                            "offending": len(misfits),
                            **({"misfits": misfits[:SHOWN_ROWS]} if misfits else {}),
                        },
                    )
                    continue
                query = sql_files.read_sql("checks", rules[key.name])
                values = sql_files.named_parameters(query, run.recipe.settings())
                offending = connection.execute(query, values).fetchmany(SHOWN_ROWS)
                count = len(offending)
                if count == SHOWN_ROWS:
                    count = _count(connection, f"({query}\n)", values)
                shown = [shown_row(row)[:300] for row in offending]
                yield AssetCheckResult(
                    passed=not offending,
                    check_name=key.name,
                    asset_key=key.asset_key,
                    metadata={
                        "rows checked": _count(connection, table, {}),
                        "offending": count,
                        **({"offending_rows": shown} if shown else {}),
                        "sql": MetadataValue.md(f"```sql\n{query}\n```"),
                    },
                )

    return check


_ENFORCED = "Enforced before rows are published: a step whose rows break it keeps the old ones."
_LIMITS = (
    f"No more is lost than the recipe's limits allow (sql/losses, docs/limits.md). {_ENFORCED}"
)
_BELONGS = "The rows were made of what stands in the tables above now (sql/edges)."


def _count(connection: duckdb.DuckDBPyConnection, rows: str, values: Mapping[str, Any]) -> int:
    (count,) = connection.execute(f"SELECT count(*) FROM {rows}", dict(values)).fetchone() or (0,)
    return int(count)


def _partitions(run: Run, table: str) -> list[str | None]:
    column = PARTITION_COLUMNS.get(table)
    return [*run.recipe.members[column]] if column else [None]
