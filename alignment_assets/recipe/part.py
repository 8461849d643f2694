"""What every part of a recipe is: strict, complete and unchangeable once read."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
# As the hub names them, such as apache-2.0 or odc-by.
Licensed = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]*$")]


class Part(BaseModel):
    """A part of a recipe: no unknown keys, no casts, no changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _lists_become_tuples(cls, values: Any) -> Any:
        # YAML knows lists; tuples, so that a recipe cannot change after it is read.
        if not isinstance(values, dict):
            return values
        return {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
