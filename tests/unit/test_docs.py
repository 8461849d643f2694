"""Documents lead where they say, and no file names a machine or is too large: run by `make lint`.

Imports nothing of the product, so that it takes a second.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

REPOSITORY = Path(__file__).resolve().parents[2]
MOST_BYTES = 500_000
# Folders of one machine or person; in two parts, so that this file names none.
OF_A_MACHINE = re.compile(rb"(?<![\w./~>-])/" + rb"(?:home|mnt|root|Users|work)/[\w.-]+")


def files() -> list[Path]:
    """Return the files of the repository, as git has them or would take them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip(f"no git repository: {listed.stderr.strip()}")
    paths = (REPOSITORY / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


@cache
def tokens(document: Path) -> list[Token]:
    """Return a document's blocks, and what is in their lines."""
    blocks = MarkdownIt("commonmark").enable("table").parse(document.read_text(encoding="utf-8"))
    return [token for block in blocks for token in (block, *(block.children or ()))]


@cache
def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub gives a document's headings."""
    found: list[str] = []
    following = zip(tokens(document), tokens(document)[1:], strict=False)
    for title in (after for before, after in following if before.type == "heading_open"):
        text = "".join(part.content for part in title.children or ())
        anchor = re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-")
        found.append(f"{anchor}-{count}" if (count := found.count(anchor)) else anchor)
    return set(found)


def broken_links(document: Path, there: set[Path]) -> Iterator[str]:
    """Yield each link of a document to a file, folder or heading that is not there."""
    for token in tokens(document):
        link = str(token.attrs.get("href") or token.attrs.get("src") or "")
        if not link or re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if target not in there:
            yield f"{link}: no such file or folder in the repository"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            yield f"{link}: {target.name} has the headings {sorted(anchors(target))}"


def test_links_in_documents_lead_somewhere() -> None:
    paths = files()
    folders = {folder for path in paths for folder in path.parents}
    there = {*paths, *(place for place in folders if place.is_relative_to(REPOSITORY))}
    documents = [path for path in paths if path.suffix == ".md"]
    broken = {
        str(document.relative_to(REPOSITORY)): found
        for document in documents
        if (found := list(broken_links(document, there)))
    }
    assert REPOSITORY / "README.md" in documents
    assert broken == {}


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# The `other` page, again\n\n## Twice\n\n## Twice\n")
    page.write_text(
        "[a](other.md) [b](other.md#the-other-page-again) [c](other.md#twice-1) [d](#here) "
        "[e](https://example.com/none)\n\n# Here\n\n"
        "| in a table |\n| --- |\n| [f](none.md) |\n\n![g](none.png) [h](other.md#twice-2) [i](#no)"
    )
    found = [line.split(":")[0] for line in broken_links(page, {page, other})]
    assert found == ["none.md", "none.png", "other.md#twice-2", "#no"]


def test_no_file_names_a_folder_of_one_machine() -> None:
    named = {
        str(path.relative_to(REPOSITORY)): sorted(set(found))
        for path in files()
        if (found := OF_A_MACHINE.findall(path.read_bytes()))
    }
    assert named == {}


def test_no_file_is_larger_than_a_reader_wants_to_fetch() -> None:
    sizes = {str(path.relative_to(REPOSITORY)): path.stat().st_size for path in files()}
    assert {name: size for name, size in sizes.items() if size > MOST_BYTES} == {}
