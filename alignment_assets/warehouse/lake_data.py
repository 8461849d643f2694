"""Where the Parquet files of a DuckLake are: a folder, or object storage."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import duckdb

from alignment_assets.host.durable import sync
from alignment_assets.host.machine import ensure_room
from alignment_assets.host.object_storage import (
    SCHEME,
    StorageError,
    is_stored,
    storage,
    storage_options,
)
from alignment_assets.warehouse import sql_files

_SECRET = "lake_data"
# As DuckLake lays its files out: a folder for each table of the schema main.
_SCHEMA = "main"
_COPY_BYTES = 8 << 20


@dataclass(frozen=True)
class LakeData:
    """The place of a lake's files.

    Attributes:
        place: a folder, or an address in object storage.
    """

    place: str

    @property
    def is_stored(self) -> bool:
        """Whether it is in object storage."""
        return is_stored(self.place)

    @property
    def folder(self) -> str:
        """The place with the stroke that folders end with, as DuckLake and DuckDB want it."""
        return f"{self.place.rstrip('/')}/"

    @property
    def extensions(self) -> tuple[str, ...]:
        """DuckDB's extensions that read it."""
        return ("httpfs",) if self.is_stored else ()

    def allow(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let a connection read here and nowhere else, once it may not open files any more."""
        place = sql_files.text_literal(self.folder)
        connection.execute(f"SET allowed_directories = [{place}]")
        if not self.is_stored:
            return
        # What httpfs has read of the environment any query could show; a secret none can.
        for name in ("access_key_id", "secret_access_key", "session_token"):
            connection.execute(f"SET s3_{name} = ''")
        options = ", ".join(
            f"{name} {sql_files.text_literal(value) if isinstance(value, str) else value}"
            for name, value in storage_options().items()
        )
        connection.execute(
            f"CREATE OR REPLACE TEMPORARY SECRET {_SECRET} (TYPE s3, {options}, SCOPE {place})"
        )

    def is_empty(self) -> bool:
        """Return whether no file is here, so that no other lake's files can be.

        Raises:
            StorageError: object storage cannot be asked.
        """
        if not self.is_stored:
            return not any(path.is_file() for path in Path(self.place).rglob("*"))
        from pyarrow.fs import FileSelector

        key = self.place.removeprefix(SCHEME).rstrip("/")
        try:
            return not storage().get_file_info(
                FileSelector(key, allow_not_found=True, recursive=True)
            )
        except OSError as error:
            raise _unusable(self.place, error) from error

    def ensure_room(self, needed: int, purpose: str) -> None:
        """Raise OSError if a folder's disk has no room for so many bytes."""
        if not self.is_stored:
            Path(self.place).mkdir(parents=True, exist_ok=True)
            ensure_room(Path(self.place), needed, purpose)

    def put(self, file: Path, table: str) -> str:
        """Put a table's finished file here, where nobody reads it before it is registered.

        Returns:
            Its address.

        Raises:
            StorageError: object storage does not take it.
            OSError: the disk does not.
        """
        address = f"{self.folder}{_SCHEMA}/{table}/{uuid.uuid4()}.parquet"
        if self.is_stored:
            try:
                with (
                    file.open("rb") as source,
                    storage().open_output_stream(address.removeprefix(SCHEME)) as target,
                ):
                    shutil.copyfileobj(source, target, _COPY_BYTES)
            except OSError as error:
                raise _unusable(address, error) from error
            return address
        target_file = Path(address)
        target_file.parent.mkdir(parents=True, exist_ok=True)
        sync(file)
        try:
            file.rename(target_file)
        except OSError:  # on another disk
            part = target_file.with_suffix(".part")
            shutil.copyfile(file, part)
            sync(part)
            part.rename(target_file)
        sync(target_file.parent)
        return address


def _unusable(place: str, error: OSError) -> StorageError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return StorageError(
        f"{place}: object storage cannot be used ({reason[:300]}); see that it is there, that "
        f"AWS_ENDPOINT_URL and the key are right, then run this again"
    )
