"""How a recipe has vLLM run a model, wherever that is, and what its engine is started with."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from alignment_assets.inference.fingerprint import resolve_weights
from alignment_assets.inference.types import Kind
from alignment_assets.recipe.model import Model
from alignment_assets.recipe.part import Count, Part
from alignment_assets.recipe.run import Run

# What decides whose code runs and which weights are read is not for a recipe to change.
_OURS = frozenset(
    {
        *("code_revision", "generation_config", "hf_config_path", "hf_overrides", "load_format"),
        *("logits_processors", "model", "revision", "speculative_config", "tokenizer"),
        *("tokenizer_revision", "trust_remote_code", "worker_cls", "worker_extension_cls"),
        # And what the recipe says elsewhere, or what its other settings lead to.
        *("dtype", "max_model_len", "max_num_seqs", "runner", "structured_outputs_config"),
        *("tensor_parallel_size",),
    }
)
# Tokens of a step for log-likelihoods: 1,024 of 152,000 words are 0.6 GB of logits, held two or
# three times over; more are no faster.
LOGLIKELIHOOD_TOKENS = 1024
LOGLIKELIHOOD_SEQUENCES = 64
# Requests in the engine for each sequence it computes at once, so that it never waits for us.
WINDOW_PER_SEQUENCE = 2
# Of processes that run an engine.
ENVIRONMENT = {
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_NO_USAGE_STATS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
# And of those on CPUs, unless their environment says otherwise. Threads that turn while they wait
# are a quarter faster alone, and stand still beside another engine: two of them on two cores had
# not answered in minutes what takes ten seconds.
ON_CPUS = {"OMP_WAIT_POLICY": "passive"}


class EngineOptions(Part):
    """How vLLM runs a model.

    Attributes:
        ours: arguments of vLLM that a recipe may not give.
    """

    ours: ClassVar[frozenset[str]] = _OURS

    gpus: Annotated[int, Field(ge=1, description="tensor parallel size")] = 1
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
        taken = sorted(cls.ours & arguments.keys())
        if taken:
            raise ValueError(f"alignment_assets decides about {', '.join(taken)}; leave it out")
        return arguments


def vllm_limits(model: Model) -> str:
    """Return a model's context length: of all that vLLM is told only that decides about refusals.

    It is the same wherever vLLM runs, so that what one refused the other need not be asked.
    """
    return json.dumps({"backend": "vllm", "max_model_len": model.max_model_len}, sort_keys=True)


def engine_settings(
    run: Run, name: str, kind: Kind, options: EngineOptions, *, gpus: int
) -> dict[str, Any]:
    """Return what `vllm_engine.EngineSettings` are made of.

    Args:
        run: what defines the model.
        name: the recipe's name of it.
        kind: what the engine does.
        options: what the recipe says to vLLM.
        gpus: the tensor parallel size; 1 on a CPU.

    Raises:
        ModelError, PackageError, RevisionError, UnsetError: its weights cannot be found.
    """
    model, recipe = run.recipe.models[name], run.recipe
    weights = resolve_weights(name, run)
    sequences, arguments = options.max_num_seqs, options.engine_arguments
    if kind == "loglikelihood":
        # vLLM holds the logits of all tokens of a step at once, and does not reckon with it.
        sequences = min(sequences, LOGLIKELIHOOD_SEQUENCES)
        arguments = {
            **arguments,
            "max_num_batched_tokens": LOGLIKELIHOOD_TOKENS,
            "enable_chunked_prefill": True,
            "enable_prefix_caching": False,  # it is not read where logits are wanted
        }
    return {
        "location": weights.location,
        "commit": weights.commit,
        "content": weights.content,
        "runner": "pooling" if kind == "classify" else "generate",
        "tensor_parallel_size": gpus,
        "max_model_len": model.max_model_len,
        "max_num_seqs": sequences,
        "dtype": options.dtype,
        "chat_template": recipe.chat_template(model),
        "chat_template_arguments": model.chat_template_arguments,
        "template_date": recipe.template_date,
        "engine_arguments": arguments,
        "limits": vllm_limits(model),
    }
