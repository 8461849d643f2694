"""What a recipe says to the backend ``vllm``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from alignment_assets.recipe.part import Count, Part

# What decides whose code runs and which weights are read is not for a recipe to change.
_OURS = {"hf_overrides", "load_format", "model", "revision", "tokenizer", "trust_remote_code"}


class VllmSettings(Part):
    """How vLLM runs a model on this host."""

    gpus: Annotated[int, Field(ge=1, description="tensor parallel size")] = 1
    replicas: Annotated[
        int | None, Field(ge=1, description="engines side by side; by default all that fit")
    ] = None
    max_num_seqs: Count = Field(256, description="requests that an engine works on at once")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="of the weights; auto is what the checkpoint says"
    )
    engine_arguments: dict[str, Any] = Field(
        default_factory=dict, description="more arguments of vllm.LLM (gpu_memory_utilization, …)"
    )

    @field_validator("engine_arguments")
    @classmethod
    def _ours_are_not_among_them(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(_OURS & arguments.keys())
        if taken:
            raise ValueError(f"{', '.join(taken)} are set by alignment_assets; leave them out")
        return arguments
