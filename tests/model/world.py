"""A home, its recipe and files, and the steps that change or remake parts of them.

Assets run by their own functions, without a Dagster run around them: that is a third of the time,
and what Dagster keeps plays no part here. `tests/model/test_status.py` runs them whole.
"""

from __future__ import annotations

import copy
import inspect
import json
import logging
import os
import shutil
import signal
import sqlite3
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from dagster import AssetsDefinition

from alignment_assets.assets.completions import completion_assets
from alignment_assets.assets.labels import label_assets
from alignment_assets.assets.prompts import prompt_assets
from alignment_assets.assets.rewards import reward_assets
from alignment_assets.assets.training_sets import training_set_assets
from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.spool import SpoolWriter
from alignment_assets.recipe.load import RecipeError, parse_recipe
from alignment_assets.recipe.model import Recipe
from alignment_assets.recipe.run import Run
from alignment_assets.warehouse import staging as staging_module
from alignment_assets.warehouse.database import Database
from alignment_assets.warehouse.query import run_query
from alignment_assets.warehouse.resource import LakeWarehouse, Warehouse
from alignment_assets.warehouse.staging import Staging
from tests.model.checker import (
    MODEL_TABLES,
    PARTITION_COLUMNS,
    POLICY_TABLES,
    TABLES,
    Checker,
    Finding,
    History,
    Place,
    label_of,
    read_tables,
)
from tests.model.engine import AskedLog, RememberingInference
from tests.model.study import RECIPE, read_source, write_source, write_study
from tests.support.line_log import append_entry, read_entries

# In the order in which a plain `materialize` makes them.
ORDER = (
    *("source_prompts", "personas", "wordings", "origin_consent", "prompt_exclusions"),
    *("licensed_prompts", "controversy_labels", "alignment_prompts", "completion_requests"),
    *("completions", "rewards", *POLICY_TABLES),
)
ASKING = (
    *("controversy_labels", "completions", "rewards", "judge_comparisons"),
    "reference_logprobs",
)
CHAINS = {
    "prompts": ORDER[: ORDER.index("completion_requests")],
    "model": ("completion_requests", "completions", "rewards"),
    "answers": ("completions", "rewards"),
    "policy": POLICY_TABLES,
    "pairs": (
        *("selected_pairs", "dpo_pairs", "qrpo_samples", "reference_logprobs"),
        "selection_exclusions",
    ),
    "all": ORDER,
    **{table: (table,) for table in ORDER},
}
LAKE = {"catalog": "sqlite:"}
KILLS = ("spool write", "stage", "before publish", "after publish")

Step = list[Any]
Tables = dict[str, list[dict[str, Any]]]


class KilledError(Exception):
    """Stands for the death of a process."""


class _Made(Database):
    """A database without what takes a quarter of the time and has no part in what is checked.

    Its tables are not compared with ``sql/schema`` each time it is opened, as no step changes them;
    and ``inference_runs``, which nothing is made from, gets no rows.
    """

    def _migration(self, *_: Any) -> None:
        return None

    def append(self, *_: Any, **__: Any) -> None:
        """Leave it."""


class MadeWarehouse(_Made, Warehouse):
    """Such a DuckDB file."""


class MadeLake(_Made, LakeWarehouse):
    """Such a DuckLake."""


@lru_cache(maxsize=4)
def _assets(folder: Path, home: Path, content: str, files: str) -> dict[str, AssetsDefinition]:
    run = Run(parse_recipe(json.loads(content), folder / "recipe.yaml"), home)
    makers = (
        *(prompt_assets, label_assets, completion_assets, reward_assets),
        training_set_assets,
    )
    return {asset.key.to_user_string(): asset for make in makers for asset in make(run)}


@dataclass
class World:
    """A recipe and its home, and what is known of how its tables came about.

    Attributes:
        folder: holds the recipe's files (``study``), the home and the engine's log.
        content: the recipe.
        told: what each step did, to be read.
        refusals: how often a build refused, by the error's class.
        strict: see `Checker`.
        by_process: whether what is killed is a process of its own.
        tables: all rows as they were read last; None before there are any.
    """

    folder: Path
    content: dict[str, Any]
    history: History = field(default_factory=History)
    told: list[str] = field(default_factory=list)
    refusals: dict[str, int] = field(default_factory=dict)
    strict: bool = False
    by_process: bool = False
    tables: Tables | None = None

    def __post_init__(self) -> None:
        self.recipe = self._parsed(self.content)
        self.log = AskedLog(self.folder / "asked.jsonl")
        self.history.saw(self.recipe)

    @classmethod
    def create(cls, folder: Path, lake: bool = False) -> World:
        """Make a finished home in an empty folder, its database a DuckDB file or a DuckLake."""
        write_study(folder / "study")
        content = copy.deepcopy(RECIPE)
        if lake:
            content["warehouse"] = {**content.get("warehouse", {}), "ducklake": LAKE}
        world = cls(folder, content)
        for text in [str(found) for found in world.apply(["make", "all", 0])]:
            raise AssertionError(text)
        assert not world.refusals, world.told
        return world

    def copied(self, folder: Path) -> World:
        """Return the same in another, new folder."""
        shutil.copytree(self.folder, folder)
        for path in (folder / "home").glob("*.ticket*"):
            path.unlink(missing_ok=True)
        _move_lake(folder / "home")
        history = History(
            dict(self.history.made),
            copy.deepcopy(self.history.wordings),
            copy.deepcopy(self.history.fingerprints),
            dict(self.history.personas),
        )
        return World(
            folder,
            copy.deepcopy(self.content),
            history,
            strict=self.strict,
            by_process=self.by_process,
            tables=self.tables,
        )

    @property
    def study(self) -> Path:
        return self.folder / "study"

    @property
    def run(self) -> Run:
        return Run(self.recipe, self.folder / "home")

    def database(self, as_it_is: bool = False) -> Warehouse | LakeWarehouse:
        """Return the home's database, without what takes time unless it is wanted as it is."""
        named = ("database", "data", "folder")
        said = {name: value for name, value in self.run.database_settings.items() if name in named}
        in_a_file, on_lake = (Warehouse, LakeWarehouse) if as_it_is else (MadeWarehouse, MadeLake)
        kind = on_lake if "data" in said else in_a_file
        return kind(**said, connection_config={"threads": 1}, lock_timeout=60)

    def _parsed(self, content: dict[str, Any]) -> Recipe:
        return parse_recipe(copy.deepcopy(content), self.study / "recipe.yaml")

    def partitions(self, table: str) -> list[str | None]:
        column, recipe = PARTITION_COLUMNS.get(table), self.recipe
        if column is None:
            return [None]
        if column == "dataset":
            return [source.name for source in recipe.prompts]
        return list(recipe.answering_models if column == "model" else recipe.policies)

    # --- steps ---------------------------------------------------------------------------------

    def apply(self, step: Step) -> list[Finding]:
        """Take a step; return what does not fit in what it published."""
        name, *arguments = step
        return getattr(self, f"_{name}")(*arguments) or []

    def _set(self, path: str, value: Any) -> None:
        """Change a field of the recipe, if that leaves it one."""
        changed = copy.deepcopy(self.content)
        *parents, last = path.split(".")
        part: Any = changed
        for parent in parents:
            part = part[int(parent) if isinstance(part, list) else parent]
        part[last] = value
        self._change(changed, f"set {path}: {json.dumps(value)}")

    def _change(self, content: dict[str, Any], told: str) -> None:
        for scorer in (content["rewards"][track] for track in ("standard", "controversial")):
            if scorer["task"] == "classify":
                scorer["rubric"] = None
            elif scorer["rubric"] is None:
                scorer["rubric"] = "judge_charter_system"
        try:
            recipe = self._parsed(content)
        except RecipeError as error:
            self.told.append(f"{told}: no recipe, left ({str(error).splitlines()[-1]:.80})")
            return
        self.content, self.recipe = content, recipe
        self.history.saw(recipe)
        self.told.append(told)

    def _members(self, kind: str, names: list[str]) -> None:
        """Say which models or policies the recipe has."""
        changed = copy.deepcopy(self.content)
        changed["completions"][kind] = names
        asked = changed["completions"]["standard_charter_models"]
        changed["completions"]["standard_charter_models"] = [
            name for name in asked if name in changed["completions"]["models"]
        ]
        self._change(changed, f"{kind} are {names}")

    def _sources(self, names: list[str]) -> None:
        changed = copy.deepcopy(self.content)
        known = {source["name"]: source for source in RECIPE["prompts"]}
        now = {source["name"]: source for source in changed["prompts"]}
        changed["prompts"] = [now.get(name, known[name]) for name in names]
        self._change(changed, f"sources are {names}")

    def _edit(self, file: str, row: int, how: str) -> None:
        """Change a source's text: white space only, a word, or whole rows."""
        rows = read_source(self.study, file)
        row %= len(rows)
        if how == "drop" and len(rows) > 1:
            del rows[row]
        elif how == "again":
            rows.insert(0, rows[row])
        else:
            rows[row] = _edited(rows[row], how)
        write_source(self.study, file, rows)
        self._files_changed(f"edit {file}.jsonl row {row}: {how}")

    def _reword(self, file: str, text: str) -> None:
        path = self.study / "wordings" / file
        if file.endswith(".yaml"):
            path.write_text(path.read_text().replace("You", text, 1))
        else:
            path.write_text(f"{path.read_text().strip()} {text}\n")
        self._files_changed(f"reword {file}: {text}")

    def _robots(self, domain: str, rule: str) -> None:
        (self.study / "robots" / f"{domain}.txt").write_text(f"User-agent: *\n{rule}\n")
        self._files_changed(f"robots.txt of {domain}: {rule}")

    def _files_changed(self, told: str) -> None:
        self.history.saw(self.recipe)
        self.told.append(told)

    def _spool(self, table: str, number: int, how: str) -> None:
        """Damage, quarantine or drop a file of answers."""
        partitions = self.partitions(table)
        partition = partitions[number % len(partitions)]
        folder = self.run.spool / table / (partition or "all")
        files = sorted(
            path
            for path in (*folder.glob("*.parquet"), *folder.glob("*.log"))
            if path.name != "0-empty.parquet"
        )
        self.told.append(f"spool of {label_of((table, partition))}: {how} ({len(files)} files)")
        for path in files:
            if how == "drop":
                path.unlink()
            elif how == "quarantine":
                path.rename(path.with_name(f"{path.name}.torn"))
            else:  # its end is gone
                path.write_bytes(path.read_bytes()[:-8])

    def _make(
        self, chain: str, number: int, kill: str | None = None, count: int = 0
    ) -> list[Finding]:
        """Remake assets of one partition, or those of a chain that have none or all of theirs."""
        places = []
        for table in CHAINS[chain]:
            partitions = self.partitions(table)
            if chain in ("prompts", "all"):
                places += [(table, name) for name in partitions]
            else:
                places.append((table, partitions[number % len(partitions)]))
        found = self._make_places(f"make {chain}", places, kill, count)
        if chain == "all" and "InconsistentError" in self.told[-1]:
            # What was made in order from the sources on fits.
            found.append(Finding("nothing", "all", "a refusal that making all does not mend"))
        return found

    def _make_from(self, first: str, last: str, number: int) -> list[Finding]:
        """Remake what is between two tables, both included, of one model or policy."""
        places: list[Place] = []
        for table in ORDER[ORDER.index(first) : ORDER.index(last) + 1]:
            names = self.partitions(table)
            one = table in (*MODEL_TABLES, *POLICY_TABLES)
            places += [(table, name) for name in ([names[number % len(names)]] if one else names)]
        return self._make_places(f"make {first} to {last}", places)

    def _make_but(self, table: str, number: int, first: str = ORDER[0]) -> list[Finding]:
        """Remake all from a table on but one partition of one asset."""
        partitions = self.partitions(table)
        left = (table, partitions[number % len(partitions)])
        places = [
            (name, partition)
            for name in ORDER[ORDER.index(first) :]
            for partition in self.partitions(name)
            if (name, partition) != left
        ]
        return self._make_places(f"make all from {first} on but {label_of(left)}", places)

    def _make_places(
        self, told: str, places: list[Place], kill: str | None = None, count: int = 0
    ) -> list[Finding]:
        before = self.tables or {table: [] for table in TABLES}
        self._events = self.folder / "events.jsonl"
        self._events.unlink(missing_ok=True)
        if self.by_process and kill is not None:
            outcome = self._in_a_process(places, milliseconds=40 + count)
        else:
            with _killing(kill, count):
                outcome = self._execute(places)
        published = self._published()
        if len({partition for _, partition in places}) == 1 and places[0][1]:
            told += f" [{places[0][1]}]"
        if kill:
            told += f", killed at {kill} {count}"
        self.told.append(f"{told}: {outcome}")
        return self._checked(published, before, outcome)

    def _execute(self, places: list[Place]) -> str:
        for place in places:
            try:
                self._execute_one(place)
            except Exception as error:
                kind = type(error)
                if isinstance(error, KilledError) or kind.__module__.startswith("alignment_assets"):
                    self._event("refused", place, f"{kind.__name__}")
                    return f"{label_of(place)} {kind.__name__}: {error!s:.300}"
                if "materialize its rewards and what follows again" in str(error):
                    return f"{label_of(place)} refused: {error!s:.300}"
                self._event("crashed", place, traceback.format_exc())
                return f"{label_of(place)} crashed: {error!r:.500}"
        return "done"

    def _execute_one(self, place: Place) -> None:
        table, partition = place
        content = json.dumps(self.content)
        asset = _assets(self.study, self.run.home, content, self._state_of_files())[table]
        build = inspect.unwrap(asset.op.compute_fn.decorated_fn)  # type: ignore[attr-defined]
        as_it_is = self.tables is None or self.by_process
        resources = {
            "warehouse": self.database(as_it_is),
            "inference": RememberingInference(log=str(self.log.path)),
            "gpus": GpuPool(),
        }
        context = SimpleNamespace(
            partition_key=partition,
            has_partition_key=partition is not None,
            asset_key=asset.key,
            assets_def=asset,
            run=SimpleNamespace(run_id="model", tags={}),
            run_id="model",
            log=logging.getLogger("tests.model"),
            instance=SimpleNamespace(add_run_tags=lambda *_: None),
        )
        published = Staging.publish

        def publish(staging: Staging, *arguments: Any, **named: Any) -> Any:
            self._event("publishing", place)
            result = published(staging, *arguments, **named)
            self._event("published", place)
            return result

        with patch.object(Staging, "publish", publish):
            wanted = {
                name: resources[name]
                for name in build.__code__.co_varnames[: build.__code__.co_argcount]
                if name in resources
            }
            build(context, **wanted)

    def _state_of_files(self) -> str:
        files = sorted(path for path in self.study.rglob("*") if path.is_file())
        return str([(path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in files])

    def _in_a_process(self, places: list[Place], milliseconds: int) -> str:
        """Execute in a process that dies by SIGKILL after a while."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                outcome = self._execute(places)
                (self.folder / "outcome").write_text(outcome)
                status = 0
            finally:
                os._exit(status)
        ends = time.monotonic() + milliseconds / 1000
        while time.monotonic() < ends:
            if os.waitpid(child, os.WNOHANG) != (0, 0):
                return (self.folder / "outcome").read_text()
            time.sleep(0.005)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return f"SIGKILL after {milliseconds} ms"

    # --- what was published, and whether it fits ------------------------------------------------

    def _event(self, kind: str, place: Place, what: str = "") -> None:
        append_entry(self._events, [kind, place, what])

    def _published(self) -> list[Place]:
        """Take note of who made what; return what was published."""
        published, opened, self._crashes = [], None, []
        for kind, (table, partition), what in read_entries(self._events):
            place = (table, partition)
            if kind == "publishing":
                opened = place
            elif kind == "published":
                opened = None
                published.append(place)
                self.history.made[place] = (self.recipe,)
            elif kind == "crashed":
                self._crashes.append(Finding(label_of(place), label_of(place), "crash", what))
            else:
                self.refusals[what] = self.refusals.get(what, 0) + 1
        if opened is not None:
            # Killed or refused meanwhile: the rows are those before, or those of now.
            self.history.made[opened] = (*self.history.made.get(opened, ()), self.recipe)
        return published

    def checker(self) -> Checker:
        """Read all rows, and return what holds them against each other."""
        self.tables = read_tables(self.database())
        return Checker(
            self.tables, self.recipe, self.history, self.log.update(), strict=self.strict
        )

    def _checked(self, published: list[Place], before: Tables, outcome: str) -> list[Finding]:
        checker = self.checker()
        found = list(self._crashes)
        for place in published:
            found += checker.check(place)
        touched = {*published, *self._opened()}
        for table in TABLES:
            was = _by_partition(table, before[table])
            now = _by_partition(table, checker.tables[table])
            for partition in was.keys() | now.keys():
                place = (table, partition)
                if place not in touched and was.get(partition) != now.get(partition):
                    label = label_of(place)
                    found.append(Finding("nothing", label, "rows changed without a publish"))
        if outcome == "done" and checker.leftovers():
            found += [
                Finding("a question", label, "rows of what left the recipe are shown")
                for label in self._shown_leftovers()
            ]
        return found

    def _shown_leftovers(self) -> list[str]:
        """Return whose rows a question shows, though the recipe no longer has them."""
        recipe = self.recipe
        members = {
            "dataset": [source.name for source in recipe.prompts],
            "model": recipe.answering_models,
            "policy": recipe.policies,
        }
        known = {"members": members} if "members" in Warehouse.model_fields else {}
        query = " UNION ".join(
            f"SELECT '{table}[' || {column} || ']' AS label, {column} AS name, '{column}' AS kind "
            f"FROM {table}"
            for table, column in PARTITION_COLUMNS.items()
        )
        warehouse = self.database(as_it_is=True).model_copy(update=known)
        rows = run_query(warehouse, query, {}).to_pylist()
        return sorted(row["label"] for row in rows if row["name"] not in members[row["kind"]])

    def _opened(self) -> Iterator[Place]:
        for kind, (table, partition), _ in read_entries(self._events):
            if kind == "publishing":
                yield table, partition


def _move_lake(home: Path) -> None:
    """Tell the catalog of a lake that was copied where its files are now."""
    if (home / "catalog.sqlite").exists():
        with closing(sqlite3.connect(home / "catalog.sqlite")) as catalog, catalog:
            catalog.execute(
                "UPDATE ducklake_metadata SET value = ? WHERE key = 'data_path'",
                [f"{home / 'lake'}/"],
            )


def _by_partition(table: str, rows: list[dict[str, Any]]) -> dict[str | None, list[str]]:
    column = PARTITION_COLUMNS.get(table)
    groups: dict[str | None, list[str]] = {}
    for row in rows:
        groups.setdefault(row[column] if column else None, []).append(str(row))
    return {name: sorted(group) for name, group in groups.items()}


def _edited(row: dict[str, Any], how: str) -> dict[str, Any]:
    row = copy.deepcopy(row)

    def changed(text: str) -> str:
        return text.replace(" ", "  ", 1) if how == "space" else f"{text.rstrip('?')} really?"

    for column in ("prompt", "opening_prompt", "persona"):
        if column in row:
            row[column] = changed(row[column])
    if isinstance(row.get("chosen"), list):
        turn = next(turn for turn in row["chosen"] if turn["role"] == "user")
        turn["content"] = changed(turn["content"])
    return row


@contextmanager
def _killing(kill: str | None, count: int) -> Iterator[None]:
    """Raise at a point of what goes on inside, the first time or some times later."""
    calls = {"left": count}

    def dying(function: Callable[..., Any], after: bool = False) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            calls["left"] -= 1
            if calls["left"] >= 0:
                return function(*arguments, **named)
            if after:
                function(*arguments, **named)
            raise KilledError(f"at {kill}")

        return call

    with ExitStack() as patched:
        if kill == "spool write":
            patched.enter_context(patch.object(SpoolWriter, "add", dying(SpoolWriter.add)))
        elif kill == "stage":
            for name in ("insert", "insert_arrow"):
                function = getattr(Staging, name)
                patched.enter_context(patch.object(Staging, name, dying(function)))
        elif kill:
            # Before what is committed is whole, or when it is.
            after = kill == "after publish"
            place, name = (Staging, "publish") if after else (staging_module, "write_records")
            function = getattr(place, name)
            patched.enter_context(patch.object(place, name, dying(function, after)))
        yield
