"""What a recipe says to the backend ``openai``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from alignment_assets.recipe.part import Part


class OpenAISettings(Part):
    """OpenAI-compatible servers that answer for a model, all alike: its endpoints."""

    urls: tuple[str, ...] = Field(min_length=1, description="with the /v1 that ends them")
    name: str | None = Field(None, description="the servers' name of the model, else its weights'")
    api_key: Annotated[
        str | None, Field(pattern=r"^env:\w+$", description="env:NAME; no key stands in a recipe")
    ] = None
    concurrency: Annotated[
        int, Field(ge=1, description="requests in flight at each; fewer after 429 and 503")
    ] = 256
    timeout: Annotated[float, Field(gt=0, description="seconds for one answer")] = 600.0

    @field_validator("urls")
    @classmethod
    def _urls_are_http(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"{url!r} does not begin with http:// or https://")
            if "@" in url or "?" in url:
                raise ValueError("a url has no user, password or query; a key goes to api_key")
        stripped = tuple(url.rstrip("/") for url in urls)
        if len(set(stripped)) < len(stripped):
            raise ValueError(f"{list(stripped)} names an endpoint twice")
        return stripped
