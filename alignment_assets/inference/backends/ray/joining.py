"""How a driver comes to its cluster: it joins one, or starts a Ray of its own, and ends it."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ray

from alignment_assets.host.expected import Expected
from alignment_assets.inference.backends.ray.placing import Place
from alignment_assets.inference.vllm_settings import ENVIRONMENT

HEARING_SECONDS = 10.0
# Ray itself goes on trying for as long as somebody listens, and be it no Ray.
JOINING_SECONDS = 45.0
# Folders of local Rays begin so. Sockets have short paths.
FOLDERS = Path("/tmp")
FOLDER_PREFIX = "ray-step_"
# What Ray may hold of requests on their way, where a step starts a Ray of its own.
OBJECT_STORE_BYTES = 512 << 20


class ClusterError(Expected):
    """A cluster that cannot be joined, or was lost: what is left may be asked again."""


@contextmanager
def joined(place: Place, late: Callable[[str], None]) -> Iterator[None]:
    """Be connected to the cluster, and to nothing afterwards.

    Args:
        place: which cluster.
        late: told why if it does not answer.

    Raises:
        ClusterError: it cannot be joined.
    """
    common = {
        "namespace": "alignment_assets",
        # Nothing of this host's folders is shipped: nodes have the same release installed.
        "runtime_env": {"env_vars": ENVIRONMENT},
        "log_to_driver": True,
    }
    if place.address is None:
        with folder_of_ray() as folder:
            _, most = place.replicas or (1, 1)
            try:
                ray.init(
                    address="local",
                    num_cpus=max(most, place.own_gpus) + 1,
                    num_gpus=place.own_gpus,
                    object_store_memory=OBJECT_STORE_BYTES,
                    include_dashboard=False,
                    _temp_dir=str(folder),
                    **common,
                )
                yield
            finally:
                ray.shutdown()
        return
    try:
        try:
            _check_heard(place.address)
            why = f"nothing of Ray's answers in {JOINING_SECONDS:.0f} s: is it the head's port?"
            timer = threading.Timer(JOINING_SECONDS, late, [cannot_join(place.address, why)])
            timer.daemon = True
            timer.start()
            try:
                ray.init(address=place.address, **common)
            except ConnectionError as error:  # which is all that Ray says of a wrong token
                said = f"{error}, though somebody listens there: is this the cluster's token?"
                raise ClusterError(cannot_join(place.address, said)) from error
            finally:
                timer.cancel()
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise ClusterError(cannot_join(place.address, str(error))) from error
        yield
    finally:
        ray.shutdown()


def cannot_join(address: str, why: str) -> str:
    """Return what there is to say of a cluster that cannot be joined."""
    node = "ray start" + ("" if address == "auto" else f" --address {address}")
    return (
        f"the Ray cluster {address} cannot be joined ({why}); this host has to be one of its "
        f"nodes: {node}; if it wants a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
    )


@contextmanager
def folder_of_ray() -> Iterator[Path]:
    """Yield a folder for a Ray of the step's own; those that killed drivers left go too."""
    for left in FOLDERS.glob(f"{FOLDER_PREFIX}*"):
        with suppress(OSError), _holding(left):  # another user's, or in use
            # One that was made a moment ago may be about to be held.
            if time.time() - left.stat().st_ctime > JOINING_SECONDS:
                shutil.rmtree(left)
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=FOLDERS))
    with _holding(folder, fcntl.LOCK_EX):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _holding(folder: Path, how: int = fcntl.LOCK_EX | fcntl.LOCK_NB) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _check_heard(address: str) -> None:
    """Raise OSError at once where nobody listens: Ray would try for minutes."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), HEARING_SECONDS):
            pass
