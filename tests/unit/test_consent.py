"""What the sites of an origin say, by the evidence that a recipe names."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignment_assets.recipe.consent import Consent, decisions, evidence
from alignment_assets.recipe.load import RecipeError, load_recipe
from alignment_assets.sources.consent import STATUSES, Evidence, origin_consent
from alignment_assets.sources.evidence import COLUMNS, read_snapshots
from alignment_assets.sources.files import SourceError
from tests.conftest import changed_recipe

AGENTS = load_recipe("apertus").consent.agents
CLOSED, OPEN = "User-agent: *\nDisallow: /\n", "User-agent: *\nAllow: /\n"
PAGE = "https://reef.example/page"


def with_robots(folder: Path, robots: dict[str, str | bytes], **rules: Any) -> Evidence:
    """Return the evidence of a folder of snapshots, with other fields of ``consent``."""
    place = folder / "robots"
    place.mkdir(exist_ok=True)
    for name, content in robots.items():
        data = content.encode() if isinstance(content, str) else content
        (place / f"{name}.txt").write_bytes(data)
    return by_rules(robots=str(place), **rules)


class Every:
    """Contains whatever is looked for."""

    def __contains__(self, _: object) -> bool:
        return True


def by_rules(**rules: Any) -> Evidence:
    """Return the evidence of the demo's recipe with other fields of ``consent``."""
    recipe = changed_recipe({f"consent.{name}": value for name, value in rules.items()})
    return replace(Evidence.of(recipe, []), snapshots=read_snapshots(recipe, Every()))


def table(path: Path, rows: list[dict[str, Any]]) -> str:
    """Write rows of evidence as the file's name says; what a row leaves out is unknown."""
    whole = [{"http_status": 200, **row} for row in rows]
    if path.suffix == ".parquet":
        columns = {name: [row.get(name) for row in whole] for name in COLUMNS}
        pq.write_table(pa.table(columns), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(whole)
    return str(path)


def status(evidence: Evidence, written: str = PAGE) -> str:
    found: str = origin_consent(written, evidence)["status"]
    return found


# -- statuses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("robots", "wanted", "reason"),
    [
        (CLOSED, "blocked", f"reef.example blocks {', '.join(AGENTS)}"),
        ("User-agent: CCBot/4\rDisallow: /\r", "blocked", "blocks CCBot, CCBot/2.0, CCBot/1.0"),
        ("User-agent: GPTBot\nDisallow: /page", "blocked", "reef.example blocks GPTBot"),
        ("User-agent: *\nDisallow: /p\nAllow: /page", "admitted", "blocks none of the agents"),
        ("Content-Signal: ai-train=no", "refused_by_signal", "reef.example signals ai-train=no"),
        (CLOSED + "Content-Signal: ai-train=no", "blocked", "reef.example blocks AI2Bot"),
        (OPEN + "Content-Signal: ai-train=yes", "admitted", ""),
        (OPEN + "License: https://reef.example/l", "licence_to_look_at", "https://reef.example/l"),
        (CLOSED + "License: https://reef.example/l", "blocked", ""),
        ("<html></html>", "not_robots_txt", "what reef.example answered is no robots.txt"),
        (CLOSED.encode("utf-16"), "blocked", ""),
        (OPEN.encode("utf-16-le"), "not_robots_txt", ""),
        (b"\x00\x01\x02", "not_robots_txt", ""),
        ("", "admitted", ""),
    ],
)
def test_a_snapshot_gives_a_status_and_the_reason(
    tmp_path: Path, robots: str | bytes, wanted: str, reason: str
) -> None:
    found = origin_consent(PAGE, with_robots(tmp_path, {"reef.example": robots}))
    assert found["status"] == wanted
    assert reason in found["reason"]
    assert (found["site"], found["origin_domain"]) == ("reef.example", "reef.example")
    assert bool(found["blocked_agents"]) == (wanted in ("blocked", "refused_by_signal"))
    assert len(found["snapshot_hash"]) == 64


@pytest.mark.parametrize(
    "written",
    [
        *(PAGE, "reef.example/page/2", "//reef.example", f"<{PAGE}>", f"['{PAGE}']", f"{PAGE} "),
        *("REEF.EXAMPLE", "https://me@Reef.Example.:8443/a?b#c", "http:/reef.example/page"),
        *("https://www.reef.example/page", f"N/A, {PAGE}", "reef.example\nreef.example/b"),
    ],
)
def test_a_site_that_blocks_is_found_however_a_row_writes_it(tmp_path: Path, written: str) -> None:
    assert status(with_robots(tmp_path, {"reef.example": CLOSED}), written) == "blocked"


def test_without_a_snapshot_or_a_readable_origin_nothing_is_decided(tmp_path: Path) -> None:
    evidence = with_robots(tmp_path, {"reef.example": CLOSED})
    unseen = origin_consent("https://atoll.example/", evidence)
    assert (unseen["status"], unseen["site"]) == ("no_snapshot", None)
    assert unseen["reason"] == "no robots.txt of atoll.example is at hand"
    odd = origin_consent("https://reef .example/" + "a" * 99, evidence)
    assert (odd["status"], odd["origin_domain"]) == ("unreadable_origin", None)
    assert len(odd["reason"]) < 130


def test_of_several_pages_the_strictest_counts(tmp_path: Path) -> None:
    evidence = with_robots(tmp_path, {"open.example": OPEN, "shut.example": CLOSED})
    assert status(evidence, '["open.example", "https://shut.example/a"]') == "blocked"
    assert status(evidence, "https://open.example/ https://shut.example/") == "blocked"
    assert status(evidence, '["open.example", "unseen.example"]') == "no_snapshot"
    assert status(evidence, '["open.example", "the other"]') == "unreadable_origin"
    assert status(evidence, '["shut.example", "the other"]') == "blocked"
    assert status(evidence, '["open.example", "n/a"]') == "admitted"


@pytest.mark.parametrize("name", ["zürich.example", "ZÜRICH.Example", "xn--zrich-kva.example"])
@pytest.mark.parametrize("page", ["https://zürich.example/a", "xn--zrich-kva.EXAMPLE/a"])
def test_a_host_is_known_in_letters_and_in_punycode(tmp_path: Path, name: str, page: str) -> None:
    assert status(with_robots(tmp_path, {name: CLOSED}), page) == "blocked"


def test_no_origin_reads_a_file_of_its_choice(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text(CLOSED)
    evidence = with_robots(tmp_path, {".hidden": CLOSED})
    for host in ("../secret", "..", ".hidden", "a/b", "a" * 300 + ".example"):
        assert status(evidence, f"https://{host}/") in ("no_snapshot", "unreadable_origin")


# -- scope and lists -------------------------------------------------------------------------------


def test_a_page_follows_the_strictest_host_of_its_domain_or_its_own_alone(tmp_path: Path) -> None:
    robots: dict[str, str | bytes] = {
        "www.reef.example": OPEN,
        "shop.reef.example": "User-agent: Diffbot\nDisallow: /",
        "coral.github.io": CLOSED,
        "atoll.co.uk": "<html>",
        "www.atoll.co.uk": OPEN,
    }
    by_domain = with_robots(tmp_path, robots)
    by_host = with_robots(tmp_path, robots, scope="host")
    for page, of_domain, of_host in (
        ("https://www.reef.example/a", "blocked", "admitted"),
        ("https://reef.example/a", "blocked", "no_snapshot"),
        ("https://a.b.reef.example/a", "blocked", "no_snapshot"),
        ("https://shop.reef.example/a", "blocked", "blocked"),
        ("https://sand.github.io/", "no_snapshot", "no_snapshot"),
        ("https://github.io/", "no_snapshot", "no_snapshot"),
        ("https://www.coral.github.io/", "blocked", "no_snapshot"),
        ("https://www.atoll.co.uk/", "not_robots_txt", "admitted"),
        ("https://other.co.uk/", "no_snapshot", "no_snapshot"),
    ):
        assert (status(by_domain, page), status(by_host, page)) == (of_domain, of_host), page
    found = origin_consent("https://www.reef.example/a", by_domain)
    assert (found["site"], found["reason"]) == (
        "shop.reef.example",
        "shop.reef.example blocks Diffbot",
    )


def test_a_list_of_domains_refuses_what_is_on_it_and_below(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(
        "# ours\nreef.example  # told us so\n\n*.Atoll.example\nwww.kelp.example\n"
        "https://lagoon.example/a\n"
    )
    rules = {
        "robots": None,
        "blocked_domains": {"letters": {"file": str(path), "date": "2026-02-03"}},
    }
    evidence, by_host = by_rules(**rules), by_rules(**rules, scope="host")
    for page, of_domain, of_host in (
        ("https://reef.example/", True, True),
        ("https://www.reef.example/", True, True),
        ("https://atoll.example/", True, True),
        ("https://kelp.example/", True, False),
        ("https://coralreef.example/", False, False),
        ("https://lagoon.example/", True, True),
    ):
        assert (status(evidence, page) == "on_blocked_list") is of_domain, page
        assert (status(by_host, page) == "on_blocked_list") is of_host, page
    found = origin_consent("https://www.reef.example/", evidence)
    assert found["reason"] == "reef.example is on the list letters of 2026-02-03"
    assert (found["site"], found["blocked_agents"]) == ("reef.example", [])


def test_of_evidence_only_what_is_about_the_origins_is_kept(tmp_path: Path) -> None:
    rows = [{"host": f"{name}.example", "body": OPEN} for name in ("reef", "www.reef", "kelp")]
    recipe = changed_recipe({"consent.robots": table(tmp_path / "evidence.csv", rows)})
    at_hand = Evidence.of(recipe, ["https://reef.example/a", "no origin at all"])
    assert sorted(at_hand.snapshots) == ["reef.example", "www.reef.example"]


# -- evidence --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_tells_what_was_answered(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"host": "reef.example", "body": OPEN, "fetched_at": "2026-03-04T05:06:07+02:00"},
        {"host": "WWW.Kelp.example.", "body": CLOSED.replace("\n", "\r")},
        {"host": "zürich.example", "body": CLOSED},
        {"host": "broken.example", "http_status": 503, "body": OPEN},
        {"host": "gone.example", "http_status": 404, "body": "<html>gone</html>"},
        {"host": "secret.example", "http_status": 401, "body": ""},
        {"host": "moved.example", "http_status": 301, "body": OPEN},
        {"host": "silent.example", "http_status": None},
        {"host": "page.example", "content_type": "text/html", "body": "<p>Welcome</p>"},
    ]
    if suffix == ".csv":
        rows[7]["http_status"] = 504  # a CSV knows no difference between empty and missing
    evidence = by_rules(robots=table(tmp_path / f"evidence{suffix}", rows))
    assert {host: status(evidence, f"https://{host}/a") for host in sorted(evidence.snapshots)} == {
        "reef.example": "admitted",
        "www.kelp.example": "blocked",
        "xn--zrich-kva.example": "blocked",
        "broken.example": "blocked",
        "gone.example": "admitted",
        "secret.example": "admitted",
        "moved.example": "not_robots_txt",
        "silent.example": "blocked",
        "page.example": "not_robots_txt",
    }
    found = origin_consent(PAGE, evidence)
    assert found["fetched_at"] == datetime(2026, 3, 4, 3, 6, 7, tzinfo=UTC)
    found = origin_consent("https://broken.example", evidence)
    assert found["blocked_agents"] == list(AGENTS)
    assert found["reason"] == "broken.example answered 503 for its robots.txt, which forbids all"


def test_of_several_snapshots_the_latest_counts_and_any_without_a_date(tmp_path: Path) -> None:
    rows = [
        {"host": "reef.example", "body": CLOSED, "fetched_at": "2025-01-01"},
        {"host": "reef.example", "body": OPEN, "fetched_at": "2026-01-01"},
        {"host": "kelp.example", "body": OPEN, "fetched_at": "2026-01-01"},
        {"host": "kelp.example", "body": CLOSED},
    ]
    evidence = by_rules(robots=table(tmp_path / "evidence.csv", rows))
    assert status(evidence) == "admitted"
    assert status(evidence, "https://kelp.example/") == "blocked"


def test_bytes_and_moments_of_parquet_are_taken_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "evidence.parquet"
    moments = [datetime(2026, 1, 1), datetime(2026, 1, 2)]
    columns = {
        "host": ["reef.example"] * 2,
        "fetched_at": moments,
        "http_status": [200.0, float("nan")],
        "content_type": ["text/plain", None],
        "body": [OPEN.encode(), CLOSED.encode("utf-16")],
    }
    pq.write_table(pa.table(columns), path)
    found = origin_consent(PAGE, by_rules(robots=str(path)))
    assert (found["status"], found["fetched_at"]) == ("blocked", moments[1].replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"host": "not a host", "body": OPEN}, "row 0: 'not a host' is no host"),
        ({"host": "", "body": OPEN}, "row 0: None is no host"),
        ({"host": "reef.example", "http_status": "fine"}, "row 0: http_status is 'fine', no num"),
        ({"host": "reef.example", "fetched_at": "May"}, "row 0: fetched_at is 'May'; write 2026-"),
    ],
)
def test_a_row_that_cannot_be_read_stops_with_its_place(
    tmp_path: Path, row: dict[str, Any], said: str
) -> None:
    path = table(tmp_path / "evidence.csv", [row])
    with pytest.raises(SourceError, match=r"^consent\.robots") as caught:
        by_rules(robots=path)
    assert said in str(caught.value)


def test_evidence_that_is_not_there_stops_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"consent\.robots: nothing at .*nowhere"):
        by_rules(robots=str(tmp_path / "nowhere"))
    with pytest.raises(SourceError, match="its name is no host"):
        with_robots(tmp_path, {"two words": OPEN})
    (tmp_path / "list.txt").write_text("reef.example\nno domain at all\n")
    for file, said in (("list.txt", "line 2: 'no domain at all'"), ("gone.txt", "cannot be read")):
        listed = {"mine": {"file": str(tmp_path / file), "date": "2026-01-01"}}
        with pytest.raises(SourceError, match=r"consent\.blocked_domains\.mine") as caught:
            by_rules(robots=None, blocked_domains=listed)
        assert said in str(caught.value)
    (tmp_path / "half.csv").write_text("host,body\nreef.example,x\n")
    with pytest.raises(SourceError, match="no column content_type, fetched_at, http_status"):
        by_rules(robots=str(tmp_path / "half.csv"))


def test_rules_are_read_in_their_short_and_long_form() -> None:
    content = {
        "agents": ["GPTBot"],
        "sources": {
            "a": "refused",
            "b": {"decision": "admitted", "evidence": "https://b.example", "date": "2026-01-01"},
            "c": {"decision": "admitted"},
        },
    }
    sources = Consent.model_validate(content).sources
    assert decisions(sources) == {"a": "refused", "b": "admitted", "c": "admitted"}
    assert evidence(sources) == {"b": "https://b.example, 2026-01-01"}
    assert Consent.model_validate(json.loads(json.dumps(content))).unknown_origins is None


def test_every_status_is_told_in_the_tables_description() -> None:
    from alignment_assets.warehouse import sql_files

    (column,) = (
        column for column in sql_files.tables()["origin_consent"].columns if column.name == "status"
    )
    assert [name for name in STATUSES if name not in column.description] == []


@pytest.mark.parametrize("name", ["a.example", "a.example_robots.txt", "rows.jsonl.gz", "x.json"])
def test_a_file_of_evidence_that_names_no_host_stops(tmp_path: Path, name: str) -> None:
    (tmp_path / "b.example.txt").write_text(OPEN)
    (tmp_path / "README.md").write_text("Fetched in November.")
    (tmp_path / name).write_text(OPEN)
    with pytest.raises(SourceError, match=r"its name is no host; name it <host>\.txt"):
        by_rules(robots=str(tmp_path))


def test_tables_beside_files_of_hosts_stop(tmp_path: Path) -> None:
    (tmp_path / "b.example.txt").write_text(OPEN)
    table(tmp_path / "evidence.csv", [{"host": "c.example", "body": OPEN}])
    with pytest.raises(SourceError, match="give each a folder"):
        by_rules(robots=str(tmp_path))


@pytest.mark.parametrize(
    "agents", [[], ["Mozilla/5.0 (compatible; GPTBot/1.1)"], ["GPTBot, CCBot"], [""]]
)
def test_agents_name_one_token_each(agents: list[str]) -> None:
    with pytest.raises(RecipeError, match="agents"):
        changed_recipe({"consent.agents": agents})
