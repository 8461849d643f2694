"""What a recipe says to the backend ``vllm``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from alignment_assets.inference.vllm_settings import EngineOptions


class VllmSettings(EngineOptions):
    """How vLLM runs a model on this host."""

    replicas: Annotated[
        int | None, Field(ge=1, description="engines side by side; by default all that fit")
    ] = None
