"""What a recipe says to the backend ``ray``."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from alignment_assets.inference.vllm_settings import EngineOptions

_HOST_AND_PORT = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")

Engines = Annotated[int, Field(ge=1)]


class RaySettings(EngineOptions):
    """How vLLM runs a model on a Ray cluster."""

    ours: ClassVar[frozenset[str]] = EngineOptions.ours | {
        *("distributed_executor_backend", "pipeline_parallel_size"),
    }

    address: Annotated[
        str | None,
        Field(
            description="the cluster's head, host:port, or auto, for the cluster that this host is "
            "a node of; by default a step starts a Ray of its own on this host, and ends it",
        ),
    ] = None
    replicas: Annotated[
        Engines | tuple[Engines, Engines] | None,
        Field(description="engines: N, or [least, most]; by default as many as fit"),
    ] = None
    accelerator_type: Annotated[
        str | None,
        Field(pattern=r"^\S+$", description="as Ray calls a kind of GPU, such as H100; or any"),
    ] = None
    pipeline_parallel_size: Annotated[
        int,
        Field(ge=1, description="parts of the model one after the other, on `gpus` GPUs each"),
    ] = 1

    @field_validator("address")
    @classmethod
    def _address_is_the_heads(cls, address: str | None) -> str | None:
        if address is not None and address != "auto":
            match = _HOST_AND_PORT.fullmatch(address)
            if not match or not 0 < int(match["port"]) < 2**16:
                client = " (ray:// is a client's, and the step's host has to be a node)"
                raise ValueError(
                    f"{address!r} is not the head's host:port, as ray start takes it, nor auto"
                    f"{client if address.startswith('ray://') else ''}"
                )
        return address

    @field_validator("replicas")
    @classmethod
    def _least_comes_first(
        cls, replicas: int | tuple[int, int] | None
    ) -> int | tuple[int, int] | None:
        if isinstance(replicas, tuple) and replicas[0] > replicas[1]:
            raise ValueError(f"the least, {replicas[0]}, is more than the most, {replicas[1]}")
        return replicas

    @property
    def gpus_of_engine(self) -> int:
        """How many GPUs one engine takes."""
        return self.gpus * self.pipeline_parallel_size
