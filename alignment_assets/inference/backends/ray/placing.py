"""Which engines fit a cluster, by its nodes: for the driver, doctor and forecasts alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alignment_assets.inference.backends.ray.settings import RaySettings


@dataclass(frozen=True)
class Node:
    """A node that is alive.

    Attributes:
        kinds: of its GPUs, as Ray calls them.
    """

    host: str
    cpus: float
    gpus: float
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where engines run, and how many; see `settings.RaySettings`.

    Attributes:
        replicas: the least and the most; None for as many as fit.
        own_gpus: those leased for a Ray of the step's own.
    """

    address: str | None
    replicas: tuple[int, int] | None
    gpus: int
    pipeline_parallel_size: int
    accelerator_type: str | None
    own_gpus: int = 0

    @classmethod
    def of(cls, settings: RaySettings) -> Place:
        """Return what a recipe says."""
        replicas = settings.replicas
        return cls(
            settings.address,
            (replicas, replicas) if isinstance(replicas, int) else replicas,
            settings.gpus,
            settings.pipeline_parallel_size,
            settings.accelerator_type,
        )

    @classmethod
    def of_json(cls, said: dict[str, Any]) -> Place:
        """Return what `dataclasses.asdict` made of one."""
        return cls(**{**said, "replicas": said["replicas"] and tuple(said["replicas"])})

    @property
    def gpus_of_engine(self) -> int:
        """How many GPUs one engine takes."""
        return self.gpus * self.pipeline_parallel_size

    def fitting(self, nodes: Sequence[Node]) -> list[Node]:
        """Return the nodes that have such GPUs as are wanted."""
        kind = self.accelerator_type
        return [node for node in nodes if kind is None or kind in node.kinds]

    def room(self, nodes: Sequence[Node]) -> int:
        """Return how many engines fit; where no node has GPUs, one a node, which takes its cores.

        Ray tells what nodes have, not what others of its users have taken of it.
        """
        if not any(node.gpus for node in nodes):
            return len(nodes)
        fitting = self.fitting(nodes)
        if self.pipeline_parallel_size > 1:
            return int(sum(node.gpus for node in fitting) // self.gpus_of_engine)
        return sum(int(node.gpus // self.gpus) for node in fitting)

    def engines(self, nodes: Sequence[Node]) -> tuple[int, int]:
        """Return how many engines are started at least and at most."""
        return self.replicas or (max(1, self.room(nodes)),) * 2
