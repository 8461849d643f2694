"""What a recipe says of how a run goes, and of what it costs."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator

from alignment_assets.recipe.part import Count, Part
from alignment_assets.recipe.spool_place import check_address


class Price(Part):
    """What a million tokens cost, in one currency for all models."""

    prompt: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="of a million tokens of prompts")
    ]
    completion: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="of a million tokens generated")
    ]


class InferenceSettings(Part):
    """What is done about requests that fail."""

    attempts: Annotated[
        int,
        Field(ge=1, description="how often a request is asked that the engine fails"),
    ] = 5
    max_failed_share: Annotated[
        float, Field(ge=0, le=1, description="of a partition's requests; more, and it is not made")
    ] = 0.01


class DuckLakeSettings(Part):
    """A database of Parquet files with a catalog, for more than one machine.

    Its catalog and files are the recipe's own: each recipe has a schema of the PostgreSQL database
    and a folder of the place that are named for it.
    """

    catalog: Annotated[
        str,
        Field(
            pattern="^(sqlite|postgres):",
            description="sqlite: with a file (by default catalog.sqlite in the home), or postgres: "
            "with what libpq takes, without a password",
        ),
    ]
    data: Annotated[
        str | None,
        Field(min_length=1, description="a folder, or s3://…; by default lake in the home"),
    ] = None

    @field_validator("data")
    @classmethod
    def _is_place(cls, data: str | None) -> str | None:
        return None if data is None else check_address(data)

    @field_validator("catalog")
    @classmethod
    def _has_no_password(cls, catalog: str) -> str:
        if re.search(r"password\s*=|://[^/@]*:[^/@]*@", catalog, re.IGNORECASE):
            raise ValueError("has a password in it: set PGPASSWORD or write ~/.pgpass")
        if catalog.removeprefix("postgres:").strip() == "":
            raise ValueError("names no database: postgres:dbname=… host=…")
        return catalog


class WarehouseSettings(Part):
    """Limits of the database engine; what is left out comes from the machine."""

    memory_limit: Annotated[str | None, Field(description="such as 8GB")] = None
    threads: Annotated[Count | None, Field(description="that a query takes, at most")] = None
    temp_directory: Annotated[
        str | None, Field(description="a folder; queries that outgrow memory spill there")
    ] = None
    ducklake: Annotated[
        DuckLakeSettings | None,
        Field(description="instead of one DuckDB file, for more than one machine"),
    ] = None
