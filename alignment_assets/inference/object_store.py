"""Object storage that speaks S3: list, put, read, delete, with errors that tell what to do.

pyarrow's file system finds keys, region and endpoint where all clients of S3 do, in the environment
first. Here belongs the storage alone; what is kept there is `stored_spool`'s part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from alignment_assets.host.expected import Expected
from alignment_assets.host.object_storage import SCHEME, storage

# Of what the storage says, a message has so much.
SHOWN_CHARACTERS = 300


class StoreError(Expected):
    """Object storage does not do what is asked; the message names it and says what to do."""


class ObjectStore:
    """The objects below one key.

    Args:
        key: the bucket, and the beginning of the objects' keys behind it.
        copies: the folder with copies of them, for messages.
    """

    def __init__(self, key: str, copies: Path) -> None:
        self._key, self._copies = key, copies

    @property
    def address(self) -> str:
        """The key as a recipe has it."""
        return f"{SCHEME}{self._key}"

    def objects(self) -> Mapping[str, int]:
        """Return the bytes of each object below the key, by its name; none below further keys.

        Raises:
            StoreError: they cannot be listed, or there is no such bucket.
        """
        found = self._entries(self._key)
        return {info.base_name: info.size for info in found if info.is_file}

    def folders(self) -> list[str]:
        """Return what stands between the key and objects two keys below, such as ``a/b``.

        Raises:
            StoreError: they cannot be listed, or there is no such bucket.
        """
        upper = [info for info in self._entries(self._key) if not info.is_file]
        lower = (info for one in upper for info in self._entries(one.path))
        return [
            info.path.rstrip("/").removeprefix(f"{self._key}/")
            for info in lower
            if not info.is_file
        ]

    def put(self, path: Path) -> None:
        """Put a file under its own name; others see it whole or not at all.

        Raises:
            StoreError: that cannot be done.
            FileNotFoundError: the file has gone.
        """
        with pa.memory_map(str(path)) as file:
            content = file.read_buffer()
        with (
            self._telling(f"cannot put {path.name}"),
            self._files.open_output_stream(self._place(path.name)) as sink,
        ):
            sink.write(content)

    def read(self, name: str) -> bytes | None:
        """Return an object; None if there is none of the name.

        Raises:
            StoreError: it cannot be read.
        """
        with self._telling(f"cannot read {name}"):
            try:
                with self._files.open_input_stream(self._place(name)) as source:
                    return bytes(source.read())
            except FileNotFoundError:
                return None

    def delete(self, name: str) -> None:
        """Delete an object, if it is there.

        Raises:
            StoreError: that cannot be done.
        """
        with self._telling(f"cannot delete {name}"):
            try:
                self._files.delete_file(self._place(name))
            except FileNotFoundError:  # somebody else was first
                return

    @cached_property
    def _files(self) -> fs.S3FileSystem:
        return storage()

    def _place(self, name: str) -> str:
        return f"{self._key}/{name}"

    def _entries(self, key: str) -> list[fs.FileInfo]:
        with self._telling("cannot list objects"):
            found = self._files.get_file_info(fs.FileSelector(key, allow_not_found=True))
            bucket = key.partition("/")[0]
            # Which reads as a bucket without objects.
            missing = not found and self._files.get_file_info(bucket).type == fs.FileType.NotFound
        if missing:
            raise StoreError(
                f"{self.address}: there is no bucket {bucket}; make it, or mend spool:"
            )
        return list(found)

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0][:SHOWN_CHARACTERS]
            raise StoreError(
                f"{self.address}: {what} ({said}); the answers of this machine are kept in "
                f"{self._copies}: see that the storage runs and that AWS_ENDPOINT_URL, AWS_REGION "
                f"and the keys in the environment are right, then run this again"
            ) from error
