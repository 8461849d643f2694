"""The questions of a page, asked of rows that are about to be published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from alignment_assets.pages.questions import Question, questions_of
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.query import Rows
from alignment_assets.warehouse.removed import Members, rows_hidden
from alignment_assets.warehouse.schema import WarehouseError
from alignment_assets.warehouse.staging import Staging

# What an answer that shows texts tells of each row: whose text, and of which prompt.
TEXT_IDS = ("row_id", "prompt_id")


@dataclass(frozen=True)
class Answer:
    """What a question of a page gives."""

    question: Question
    rows: Rows

    @property
    def texts_of(self) -> list[tuple[Any, Any]]:
        """The ids of the rows whose texts it shows, each with its prompt's."""
        if self.question.form != "texts":
            return []
        places = [list(self.rows.columns).index(name) for name in TEXT_IDS]
        return [(row[places[0]], row[places[1]]) for row in self.rows.values]


def ask_about(staging: Staging, members: Members, parameters: Mapping[str, Any]) -> list[Answer]:
    """Answer the questions of a table's page from new rows of it, before they are published.

    Of other tables that have the same partitions they see the same one, and of all the rows of
    those whom the recipe has.

    Args:
        staging: the new rows.
        members: whom the recipe has.
        parameters: the recipe's settings, which questions may name.

    Raises:
        WarehouseError: a question cannot be answered; the message names its file.
    """
    table = staging.table.name
    asked = questions_of(table)
    if not asked:
        return []
    seen = {**members, **{column: [value] for column, value in staging.partition.items()}}
    with rows_hidden(staging.connection, seen, staging.reads, but=table):
        return [Answer(one, _answer(staging, one, parameters)) for one in asked]


def _answer(staging: Staging, question: Question, parameters: Mapping[str, Any]) -> Rows:
    try:
        values = sql_files.named_parameters(question.text, parameters)
        connection = staging.connection.execute(question.text, values)
        described = connection.description or []
        rows = Rows(
            [column[0] for column in described],
            [str(column[1]) for column in described],
            connection.fetchall(),
        )
    except (duckdb.Error, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise WarehouseError(
            f"{staging.label}: sql/analysis/{question.name}.sql, which is shown with it, fails on "
            f"the new rows: {reason}; mend it, or take its line `-- Page:` out"
        ) from error
    wanted = [*question.columns, *(TEXT_IDS if question.form == "texts" else ())]
    if not set(wanted) <= set(rows.columns):
        raise WarehouseError(
            f"{staging.label}: sql/analysis/{question.name}.sql gives the columns "
            f"{list(rows.columns)}; its line `-- Page:` wants {wanted}"
        )
    return rows
