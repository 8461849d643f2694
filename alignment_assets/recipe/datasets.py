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

    dataset: str = Field(
        min_length=1,
        description="hf:owner/name, or a file, folder or glob beside the recipe",
    )
    configs: tuple[str, ...] = Field(
        (), description="configurations of a hub dataset, read in turn; by default the default one"
    )
    split: str = Field("train", description="the split of a hub dataset or saved folder")
    revision: str = Field(
        "main", description="of a hub dataset; resolved to a commit and recorded at first use"
    )
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

    ``columns`` maps the column that the form reads, ``source``, ``upstream_id`` and ``origin_url``
    where there are such, and any others, which are kept in ``extra`` under the names given here.
    """

    name: Name = Field(description="its partition of source_prompts; each source has its own")
    form: Literal["conversation", "text"] = Field(
        description="conversation: a list of messages, the prompt is all before the last answer; "
        "text: the prompt is one user message"
    )
    track: Literal["graded", "standard", "controversial"] = Field(
        description="graded: the grader decides for each prompt; else all go on the track named"
    )
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
