"""What a recipe says to the backend ``vllm``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from alignment_assets.recipe.part import Count, Part

# What decides whose code runs and which weights are read is not for a recipe to change.
_OURS = {
    *("code_revision", "generation_config", "hf_config_path", "hf_overrides", "load_format"),
    *("logits_processors", "model", "revision", "speculative_config", "tokenizer"),
    *("tokenizer_revision", "trust_remote_code", "worker_cls", "worker_extension_cls"),
    # And what the recipe says elsewhere, or what its other settings lead to.
    *("dtype", "max_model_len", "max_num_seqs", "runner", "structured_outputs_config"),
    *("tensor_parallel_size",),
}


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
            raise ValueError(f"alignment_assets decides about {', '.join(taken)}; leave it out")
        return arguments
