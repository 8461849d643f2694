"""One concept a folder, and no import runs up: `alignment_assets/__init__.py` has the order."""

from __future__ import annotations

import ast
import importlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import alignment_assets
from alignment_assets.host.paths import PACKAGE

# Each backend has a folder of its own, and may not enter the others'.
BACKENDS = [
    f"inference.backends.{path.parent.name}"
    for path in sorted((PACKAGE / "inference" / "backends").glob("*/__init__.py"))
]
# From what imports nothing else of the product to what nothing else imports.
ORDER = [
    "host",
    "recipe",
    "warehouse",
    "pages",
    "gpus",
    "sources",
    "inference",
    *BACKENDS,
    "inference.backends",
    "requests",
    "exports",
    "assets",
    "definitions",
    "commands",
]
# With two backends. One more imports host, recipe, gpus and inference, and is imported once. Six
# are of exports: it imports host, recipe, warehouse and pages; assets and commands import it.
MOST_ARROWS = 48 + 5 * (len(BACKENDS) - 2)


def room_of(module: str) -> str:
    """Return the room that a module stands in: its folder, or the folder of its backend."""
    parts = module.split(".")[1:]
    rooms = [room for room in ORDER if parts[: room.count(".") + 1] == room.split(".")]
    assert rooms, f"{module} stands in no room of ORDER"
    return max(rooms, key=len)


def imports_of(path: Path) -> Iterator[str]:
    """Yield the product's modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("alignment_"))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            if node.module == "alignment_assets":
                yield from (f"alignment_assets.{name.name}" for name in node.names)
            elif node.module and node.module.startswith("alignment_assets."):
                yield node.module
                # `from alignment_assets.inference import backends` names a folder.
                for name in node.names:
                    if (PACKAGE.parent / node.module.replace(".", "/") / name.name).is_dir():
                        yield f"{node.module}.{name.name}"


def arrows() -> dict[tuple[str, str], set[str]]:
    """Return the modules that import, by the room they stand in and the room they import from."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        module = module.removesuffix(".__init__")
        if module == "alignment_assets":
            continue
        for imported in imports_of(path):
            here, there = room_of(module), room_of(imported)
            if here != there:
                found[here, there].add(module)
    return found


def test_no_import_runs_up_and_no_backend_knows_another() -> None:
    upward = {
        f"{here} imports {there}": sorted(modules)
        for (here, there), modules in arrows().items()
        if ORDER.index(there) > ORDER.index(here) or {here, there} <= set(BACKENDS)
    }
    assert upward == {}


def test_imports_are_statements_that_can_be_read() -> None:
    hidden = {"import_module", "__import__"}
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Name) and node.id in hidden)
        or (isinstance(node, ast.Attribute) and node.attr in hidden)
    }
    assert found == set()


def test_rooms_do_not_grow_together() -> None:
    assert {room for arrow in arrows() for room in arrow} == set(ORDER)
    assert len(arrows()) <= MOST_ARROWS, sorted(arrows())


def test_each_folder_says_what_it_is_and_what_it_imports() -> None:
    for room in ORDER:
        module = (
            importlib.import_module(f"alignment_assets.{room}") if room != "definitions" else None
        )
        if module is not None:
            told = module.__doc__ or ""
            assert len(told.split()) > 5, f"alignment_assets/{room.replace('.', '/')} says nothing"
    listed = [room for room in ORDER if "." not in room]
    assert ", ".join(listed) in " ".join((alignment_assets.__doc__ or "").split())


def test_dagsters_private_modules_are_imported_in_two_places() -> None:
    """An upgrade of Dagster that takes one away fails in here, by name."""
    users = {
        path.relative_to(PACKAGE).as_posix(): sorted(private)
        for path in PACKAGE.rglob("*.py")
        if (private := set(private_imports(path)))
    }
    assert set(users) == {"assets/slots.py", "commands/dagster_private.py"}
    for module, name in set().union(*users.values()):
        assert hasattr(importlib.import_module(module), name), f"{module} has no {name} any more"


def private_imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the private modules of Dagster that a file imports from, each with a name it takes."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            taken = [(node.module, name.name) for name in node.names]
        elif isinstance(node, ast.Import):
            taken = [(name.name, "__name__") for name in node.names]
        else:
            continue
        for module, name in taken:
            parts = [*module.split("."), name.removesuffix("__name__")]
            if parts[0].startswith("dagster") and any(part.startswith("_") for part in parts):
                yield module, name


def test_no_module_is_longer_than_a_few_screens() -> None:
    long = {
        path.relative_to(PACKAGE).as_posix(): lines
        for path in PACKAGE.rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert long == {}
