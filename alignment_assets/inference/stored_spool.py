"""A spool folder whose files are objects too: the folder has copies, and both are kept the same.

Files of answers have names of their own and never change, so a name is all that is compared.
`StoredFolder.settle` puts what the store lacks and fetches what the folder lacks. A file goes only
by a *list of what is gone*, ``<id>.gone``, which is such a file itself: what it names is deleted on
both sides, and never put or fetched again, whoever still has a copy. A name that is merely missing
is put again, so nothing is lost with a bucket. Here belongs that; which answers count is `spool`'s
part.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from alignment_assets.host.durable import written_whole
from alignment_assets.inference.object_store import ObjectStore, StoreError
from alignment_assets.inference.spool_files import EMPTY_FILE, is_whole, what_is_wrong
from alignment_assets.recipe.spool_place import key_of

ANSWERS, GONE = ".parquet", ".gone"
# Answers are put when there are so many, or the first of them is so old.
PUT_ROWS = 1000
PUT_SECONDS = 5.0
# A store that is away is tried again, while an engine goes on for so long; then the run ends.
RETRY_SECONDS = 5.0
PATIENCE_SECONDS = 300.0
# Requests at once.
REQUESTS = 16
# Whoever waits for more files than this is told.
TOLD_FILES = 100
# A store that changes while it is read makes a reader start again, at most so often.
READINGS = 5
Report = Callable[[str], None]
T = TypeVar("T")


def stored_folder(folder: Path) -> StoredFolder | None:
    """Return what keeps a folder and object storage the same; None for a folder that is all."""
    key = key_of(folder)
    return None if key is None else StoredFolder(folder, ObjectStore(key, folder))


def names_of_stored(spool: Path) -> list[str]:
    """Return the folders of which a spool has objects, such as ``completions/qwen3-14b``.

    Raises:
        StoreError: they cannot be listed.
    """
    key = key_of(spool)
    return [] if key is None else ObjectStore(key, spool).folders()


class StoredFolder:
    """A folder of copies and its objects."""

    def __init__(self, folder: Path, store: ObjectStore) -> None:
        self._folder, self._store = folder, store

    def settle(self, report: Report) -> None:
        """Make the folder and the store the same.

        Args:
            report: told where many files have to be put or fetched.

        Raises:
            StoreError: the store cannot be asked; what the folder has stays.
        """
        for reading in range(READINGS):
            if self._settle(report, again=reading > 0):
                return
        raise StoreError(
            f"{self._store.address}: objects come and go while they are read; run this again"
        )

    def put(self, path: Path) -> None:
        """Put a file of the folder, unless it has been merged or removed.

        Raises:
            StoreError: that cannot be done; the file stays.
        """
        with suppress(FileNotFoundError):
            self._store.put(path)

    def mend(self, path: Path) -> bool:
        """Fetch a file again that was quarantined; return whether it can be read.

        If the object is no better, it goes.

        Raises:
            StoreError: the store cannot be asked.
        """
        if not self._fetch(path.name):
            return False
        if what_is_wrong(path) is None:
            return True
        self.retire([path])
        self.settle(lambda _: None)
        return False

    def replace(self, files: Sequence[Path], instead: Path) -> bool:
        """Have a file take the place of others whose rows it has; return whether it may.

        It may not where one of them has gone meanwhile, with rows that somebody withdrew: then the
        file goes. Whoever withdraws looks for such files after saying what is gone, and this looks
        for what is gone after putting the file, so one of them sees the other.

        Raises:
            StoreError: the store cannot be asked; all files stay.
        """
        self._store.put(instead)
        self._fetch_lists(self._store.objects())
        gone, _ = self._gone()
        if any(path.name in gone for path in files):
            self.retire([instead])
            return False
        self.retire(files, instead)
        return True

    def retire(self, files: Sequence[Path], instead: Path | None = None) -> None:
        """Remove files from the folder for good; `settle` then deletes their objects.

        Args:
            files: they go.
            instead: a file of the folder that has what is kept of them.
        """
        said = {"gone": [file.name for file in files], "instead": instead and instead.name}
        with written_whole(self._folder / f"{uuid.uuid4().hex}{GONE}") as file:
            file.write(json.dumps(said).encode())
        for one in files:
            one.unlink(missing_ok=True)

    def gone(self) -> set[str]:
        """Return the names of files that are gone for good, as the folder's lists say."""
        return self._gone()[0]

    def _settle(self, report: Report, again: bool) -> bool:
        """Make both the same once; return whether nothing went meanwhile that is needed."""
        objects = self._store.objects()
        self._fetch_lists(objects)
        here = self._names()
        gone, instead = self._gone()
        there = objects.keys()
        if not again and not instead <= here | there | gone:
            return False  # put while the objects were listed
        # What stands in place of files is put before the list of these, and all before they go.
        self._put(sorted(name for name in here - there - gone if name.endswith(ANSWERS)), report)
        self._put(sorted(name for name in here - there if name.endswith(GONE)), report)
        wanted = sorted(
            name for name in there - here - gone if name.endswith(ANSWERS) and name != EMPTY_FILE
        )
        self._tell(report, "fetching", len(wanted))
        if not all(_at_once(self._fetch, wanted)):
            return False
        for name in here & gone:
            (self._folder / name).unlink(missing_ok=True)
        _at_once(self._store.delete, sorted(there & gone))
        return True

    def _put(self, names: Sequence[str], report: Report) -> None:
        self._tell(report, "putting", len(names))
        _at_once(self._put_whole, names)

    def _put_whole(self, name: str) -> None:
        path = self._folder / name
        with suppress(FileNotFoundError):
            if name.endswith(GONE) or is_whole(path):  # else its reader quarantines it
                self._store.put(path)

    def _tell(self, report: Report, what: str, count: int) -> None:
        if count > TOLD_FILES:
            report(f"{self._store.address}: {what} {count:,} files")

    def _fetch(self, name: str) -> bool:
        """Copy an object into the folder; return False if there is none."""
        content = self._store.read(name)
        if content is None:
            return False
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / name
        if name.endswith(GONE):  # half of it would bring back what the other half names
            with written_whole(path) as file:
                file.write(content)
            return True
        temporary = path.with_name(f"{name}.{uuid.uuid4().hex}.tmp")
        try:
            temporary.write_bytes(content)
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def _fetch_lists(self, objects: Iterable[str]) -> None:
        missing = {name for name in objects if name.endswith(GONE)} - self._names()
        _at_once(self._fetch, sorted(missing))

    def _names(self) -> set[str]:
        if not self._folder.is_dir():
            return set()
        names = (path.name for path in self._folder.iterdir())
        return {name for name in names if name.endswith((ANSWERS, GONE)) and name != EMPTY_FILE}

    def _gone(self) -> tuple[set[str], set[str]]:
        """Return the names that are gone, and those of what stands in their place."""
        gone, instead = set[str](), set[str]()
        for path in self._folder.glob(f"*{GONE}"):
            try:
                said = json.loads(path.read_bytes())
                gone.update(said["gone"])
                instead.update([said["instead"]] if said["instead"] else ())
            except (ValueError, TypeError, KeyError) as error:
                raise StoreError(
                    f"{path}: this list of what is gone cannot be read; remove it here, and it is "
                    f"fetched again"
                ) from error
        return gone, instead


def _at_once(do: Callable[[str], T], names: Sequence[str]) -> list[T]:
    if not names:
        return []
    with ThreadPoolExecutor(min(REQUESTS, len(names))) as threads:
        return list(threads.map(do, names))


class Putter:
    """Puts files as they come, while their engine goes on."""

    def __init__(self, folder: StoredFolder) -> None:
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, "spool put")
        self._running: list[Future[None]] = []
        self._closing = threading.Event()
        self._error: BaseException | None = None

    def put(self, path: Path) -> None:
        """Have a file put, later."""
        self._running = [one for one in self._running if not one.done()]
        self._running.append(self._thread.submit(self._put, path))

    def check(self) -> None:
        """Raise what has kept files out of the store.

        Raises:
            StoreError: the store has not taken them for `PATIENCE_SECONDS`.
        """
        if self._error is not None:
            raise self._error

    def flush(self) -> None:
        """Wait until all files are in the store.

        Raises:
            StoreError: it does not take them.
        """
        for one in self._running:
            one.result()
        self.check()

    def close(self) -> None:
        """Do what `flush` does, without patience, and end."""
        self._closing.set()
        self._thread.shutdown()
        self.check()

    def _put(self, path: Path) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while self._error is None:
            try:
                self._folder.put(path)
                return
            except StoreError as error:
                if time.monotonic() > end or self._closing.wait(RETRY_SECONDS):
                    self._error = error
            except BaseException as error:
                self._error = error
