"""What a recipe says of how a run goes, and of what it costs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from alignment_assets.recipe.part import Count, Part


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


class WarehouseSettings(Part):
    """Limits of the database engine; what is left out comes from the machine."""

    memory_limit: Annotated[str | None, Field(description="such as 8GB")] = None
    threads: Annotated[Count | None, Field(description="that a query takes, at most")] = None
    temp_directory: Annotated[
        str | None, Field(description="a folder; queries that outgrow memory spill there")
    ] = None
