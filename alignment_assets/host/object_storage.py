"""Object storage as S3 has it: who we are to it, and its files.

Who asks is said by the environment, in the names that all clients of S3 know.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from alignment_assets.host.expected import Expected

if TYPE_CHECKING:
    from pyarrow.fs import S3FileSystem

SCHEME = "s3://"
REGION = "us-east-1"
CONNECT_SECONDS = 5.0
# Without a byte for so long a request has failed; the client then tries it again, twice.
REQUEST_SECONDS = 30.0


class StorageError(Expected):
    """Object storage that cannot be used; the message says where, why and what to do."""


def is_stored(place: str) -> bool:
    """Say whether a place is in object storage, and not a folder."""
    return place.startswith(SCHEME)


def storage_options() -> dict[str, str | bool]:
    """Return what a DuckDB secret of the type s3 is made of, from the environment.

    Raises:
        StorageError: it names no key.
    """
    said = {name: os.environ.get(f"AWS_{name}") for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")}
    missing = [f"AWS_{name}" for name, value in said.items() if not value]
    if missing:
        raise StorageError(
            f"tables on object storage need a key in the environment: set {' and '.join(missing)}"
        )
    options: dict[str, str | bool] = {
        "KEY_ID": said["ACCESS_KEY_ID"] or "",
        "SECRET": said["SECRET_ACCESS_KEY"] or "",
        "REGION": _region() or REGION,
    }
    if token := os.environ.get("AWS_SESSION_TOKEN"):
        options["SESSION_TOKEN"] = token
    if endpoint := _endpoint():
        where = urlsplit(endpoint)
        options |= {
            "ENDPOINT": f"{where.netloc}{where.path.rstrip('/')}",
            "USE_SSL": where.scheme != "http",
            "URL_STYLE": "path",
        }
    return options


def storage() -> S3FileSystem:
    """Return the files of object storage, by bucket and key.

    It finds keys, region and endpoint where all clients of S3 do, in the environment first.
    """
    from pyarrow.fs import S3FileSystem

    return S3FileSystem(
        endpoint_override=_endpoint(),
        region=_region(),
        connect_timeout=CONNECT_SECONDS,
        request_timeout=REQUEST_SECONDS,
        allow_delayed_open=True,  # one request for an object of some megabytes
    )


def _endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def _region() -> str | None:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
