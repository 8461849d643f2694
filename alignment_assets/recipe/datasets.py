"""The datasets of a recipe: where rows are read from, and how a collection of prompts is used.

Here belong the fields and their validation; reading is ``sources/readers.py``.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from alignment_assets.recipe.part import Count, Licensed, Name, Part

# Our columns of a prompt source: the one that its form reads, and those that any may have. A
# conversation may have its prompt apart, in the column `prompt`. Whatever else an entry maps is
# kept as `extra`.
PROMPT_COLUMNS = {"conversation": "conversation", "text": "prompt"}
PROVENANCE_COLUMNS = ("source", "upstream_id", "origin_url", "language")


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


class Personas(DatasetReference):
    """Descriptions of people, whom the persona variant speaks as."""

    max_characters: Count | None = Field(
        None,
        description="longer personas are not used; the original scripts took up to 200, the report "
        "gives no limit",
    )

    @model_validator(mode="after")
    def _columns_are_known(self) -> Personas:
        _check_columns(self, {"persona"})
        return self


class HumanLabels(DatasetReference):
    """People's grades of prompts, which are named by their text or by their ``prompt_id``."""

    @model_validator(mode="after")
    def _columns_are_known(self) -> HumanLabels:
        named = {"prompt", "prompt_id"} & set(self.columns) or {"prompt"}
        _check_columns(self, {"label", *named}, {"annotator", "prompt_id"})
        return self


def _check_columns(
    reference: DatasetReference, needed: set[str], optional: Collection[str] = ()
) -> None:
    """Raise ValueError unless a dataset maps the columns that it must, or may, and no others."""
    columns = set(reference.columns)
    if not needed <= columns <= {*needed, *optional}:
        raise ValueError(
            f"columns: needs {sorted(needed)} and may have {sorted(set(optional) - needed)}, "
            f"has {sorted(columns)}"
        )


class PromptSource(DatasetReference):
    """One collection of prompts: how its rows are read, and on which track they go.

    ``columns`` maps the column that the form reads, ``source``, ``upstream_id``, ``origin_url`` and
    ``language`` where there are such, and any others, which are kept in ``extra`` under the names
    given here. Without a column for it, the language is what a config's name ends in
    (``wildchat-de``), else unknown.
    """

    name: Name = Field(description="its partition of source_prompts; each source has its own")
    form: Literal["conversation", "text"] = Field(
        description="conversation: messages, the prompt is all before the last answer; text: the "
        "prompt is one user message"
    )
    track: Literal["graded", "standard", "controversial"] = Field(
        description="graded: the grader decides for each prompt; else all go on the track named"
    )
    licence: Licensed | None = Field(
        None, description="of the collection, as the hub names it: odc-by; exports tell it"
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
        if self.form == "text" and "conversation" in self.columns:
            raise ValueError(
                f"{self.name}: form text does not read the column 'conversation'; leave it out"
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
            if column not in (*PROMPT_COLUMNS.values(), *PROVENANCE_COLUMNS)
        ]
