"""The datasets of a recipe: where rows are read from, and how a collection of prompts is used.

Here belong the fields and their validation; reading is ``sources/readers.py``.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from alignment_assets.recipe.part import Name, Part

# Our columns of a prompt source: the one that its form reads, and those that any may have. Whatever
# else an entry maps is kept as `extra`.
PROMPT_COLUMNS = {"conversation": "conversation", "text": "prompt"}
PROVENANCE_COLUMNS = ("source", "upstream_id", "origin_url")


class DatasetReference(Part):
    """Where rows are read from: a hub dataset (``hf:owner/name``) or local file, folder or glob."""

    dataset: str
    configs: tuple[str, ...] = ()
    split: str = "train"
    revision: str = "main"
    columns: dict[str, str] = Field(default_factory=dict, description="our column: theirs")


def needs_columns(*needed: str, optional: tuple[str, ...] = ()) -> AfterValidator:
    """Return the validation of a dataset's columns: those it must map, and those it may."""

    def check(reference: DatasetReference | None) -> DatasetReference | None:
        columns = set(reference.columns) if reference else set(needed)
        if not set(needed) <= columns <= {*needed, *optional}:
            raise ValueError(
                f"columns: needs {list(needed)} and may have {list(optional)}, "
                f"has {sorted(columns)}"
            )
        return reference

    return AfterValidator(check)


class PromptSource(DatasetReference):
    """One collection of prompts: how its rows are read, and on which track they go.

    ``columns`` maps the column that the form reads, those of `PROVENANCE_COLUMNS`, and any others,
    which are kept in ``extra`` under the names given here.
    """

    name: Name
    form: Literal["conversation", "text"]
    track: Literal["graded", "standard", "controversial"]
    keep: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="only rows whose column has one of these values"
    )

    @field_validator("keep", mode="before")
    @classmethod
    def _values_become_tuples(cls, keep: Any) -> Any:
        if not isinstance(keep, dict):
            return keep
        return {
            column: tuple(values) if isinstance(values, list) else values
            for column, values in keep.items()
        }

    @model_validator(mode="after")
    def _columns_fit_the_form(self) -> PromptSource:
        needed = PROMPT_COLUMNS[self.form]
        if needed not in self.columns:
            raise ValueError(
                f"{self.name}: form {self.form} reads the column {needed!r}; map it: "
                f"columns: {{{needed}: <their name>}}"
            )
        (other,) = set(PROMPT_COLUMNS.values()) - {needed}
        if other in self.columns:
            raise ValueError(
                f"{self.name}: form {self.form} does not read the column {other!r}; leave it out"
            )
        for column in self.extra_columns:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", column):
                raise ValueError(
                    f"{self.name}: the column {column!r} is no name for SQL; use lower-case "
                    f"letters, digits and underscores"
                )
        kept = {*PROVENANCE_COLUMNS, *self.extra_columns} & set(self.columns)
        for column, values in self.keep.items():
            if column not in kept:
                raise ValueError(
                    f"{self.name}: keep names the column {column!r}, which is not mapped; add it "
                    f"to columns, beside {sorted(kept)}"
                )
            if not values:
                raise ValueError(f"{self.name}: keep.{column} names no value; no row would stay")
        return self

    @property
    def extra_columns(self) -> list[str]:
        """The mapped columns that are kept in ``extra``."""
        return [
            column
            for column in self.columns
            if column not in (PROMPT_COLUMNS[self.form], *PROVENANCE_COLUMNS)
        ]
