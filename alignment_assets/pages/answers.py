"""Questions asked: of rows that are about to be published, or of those that are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from alignment_assets.pages.questions import Question, question, questions_of
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.query import Rows, fetch
from alignment_assets.warehouse.removed import Members, rows_hidden
from alignment_assets.warehouse.schema import WarehouseError
from alignment_assets.warehouse.staging import Staging

# What an answer that shows texts tells of each row: whose text, and of which prompt.
TEXT_IDS = ("row_id", "prompt_id")


@dataclass(frozen=True)
class Answer:
    """What a question gives: the same to whoever shows it, who decides how a cell is written."""

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
        try:
            return [_answer(staging.connection, one, parameters) for one in asked]
        except WarehouseError as error:
            raise WarehouseError(
                f"{staging.label}: {error}, or take its line `-- Page:` out: it is shown with the "
                f"new rows"
            ) from error


def ask_published(
    connection: duckdb.DuckDBPyConnection, names: Iterable[str], parameters: Mapping[str, Any]
) -> dict[str, Answer]:
    """Answer questions from what is published, all partitions of a table together.

    Args:
        connection: to the database, `isolate`d: it sees no rows of those who left the recipe.
        names: of the questions.
        parameters: the recipe's settings, which questions may name.

    Raises:
        WarehouseError: a question cannot be answered; the message names its file.
    """
    return {name: _answer(connection, question(name), parameters) for name in names}


def _answer(
    connection: duckdb.DuckDBPyConnection, question: Question, parameters: Mapping[str, Any]
) -> Answer:
    try:
        values = sql_files.named_parameters(question.text, parameters)
        rows = fetch(connection, question.text, values)
    except (duckdb.Error, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise WarehouseError(
            f"sql/analysis/{question.name}.sql fails: {reason}; mend it"
        ) from error
    wanted = [*question.columns, *(TEXT_IDS if question.form == "texts" else ())]
    if not set(wanted) <= set(rows.columns):
        raise WarehouseError(
            f"sql/analysis/{question.name}.sql gives the columns {list(rows.columns)}; its line "
            f"`-- Page:` wants {wanted}: mend it"
        )
    return Answer(question, rows)
