"""Reading datasets: every format gives the same rows, and what is broken is told or kept apart."""

from __future__ import annotations

import csv
import gzip
import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignment_assets.recipe.datasets import DatasetReference, PromptSource
from alignment_assets.sources.files import Row, SourceError
from alignment_assets.sources.readers import read_rows
from alignment_assets.sources.rows import source_prompt_row
from tests.conftest import changed_recipe

RECORDS = [
    {"id": f"row-{number}", "text": text}
    for number, text in enumerate(
        ["plain", 'a "quoted" word, and a comma', "two\nlines", "ünïcødé 🇨🇭 \u2028 \u202b", " "]
    )
]
COLUMNS = {"prompt": "text", "upstream_id": "id"}
TEXTS = PromptSource(name="mix", dataset="mix", form="text", track="standard", columns=COLUMNS)


def read(path: Path | str, **reference: Any) -> list[Row]:
    return list(rows_of(path, **reference))


def rows_of(path: Path | str, **reference: Any) -> Any:
    wanted = {"columns": COLUMNS, **reference}
    return read_rows("prompts.mix", DatasetReference(dataset=str(path), **wanted), changed_recipe())


def rows_made_of(path: Path) -> list[dict[str, Any]]:
    return [source_prompt_row(TEXTS, number, row) for number, row in enumerate(read(path))]


def refusal(path: Path | str, **reference: Any) -> str:
    with pytest.raises(SourceError) as caught:
        read(path, **reference)
    message = str(caught.value)
    assert message.startswith(f"prompts.mix ({path}): ")
    return message


def json_lines(records: list[dict[str, Any]] = RECORDS, *, ascii_only: bool = False) -> bytes:
    return "".join(json.dumps(r, ensure_ascii=ascii_only) + "\n" for r in records).encode()


# -- formats ---------------------------------------------------------------------------------------


def as_jsonl(folder: Path) -> Path:
    (folder / "rows.jsonl").write_bytes(json_lines())
    return folder / "rows.jsonl"


def as_windows_jsonl(folder: Path) -> Path:
    content = b"\xef\xbb\xbf" + json_lines(ascii_only=True).replace(b"\n", b"\r\n\r\n")
    (folder / "rows.jsonl").write_bytes(content.rstrip())
    return folder / "rows.jsonl"


def as_gzip(folder: Path) -> Path:
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(json_lines()))
    return folder / "rows.jsonl.gz"


def as_json_array(folder: Path) -> Path:
    (folder / "rows.json").write_text(json.dumps(RECORDS, indent=1), "utf-8")
    return folder / "rows.json"


def as_concatenated_json(folder: Path) -> Path:
    (folder / "rows.json").write_text("\n".join(json.dumps(r, indent=2) for r in RECORDS), "utf-8")
    return folder / "rows.json"


def as_csv(folder: Path) -> Path:
    with (folder / "rows.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, ["id", "text"])
        writer.writeheader()
        writer.writerows(RECORDS)
    return folder / "rows.csv"


def as_parquet(folder: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(RECORDS), folder / "rows.parquet", row_group_size=2)
    return folder / "rows.parquet"


def as_folder(folder: Path) -> Path:
    (folder / "sub" / "part.parquet").mkdir(parents=True)
    (folder / "0.jsonl").write_bytes(json_lines(RECORDS[:1]))
    (folder / "sub" / "1.jsonl.gz").write_bytes(gzip.compress(json_lines(RECORDS[1:3])))
    rest = pa.Table.from_pylist(RECORDS[3:])
    pq.write_table(rest, folder / "sub" / "part.parquet" / "2.parquet")  # as Spark writes
    (folder / "README.md").write_text("not data")
    return folder


def as_glob(folder: Path) -> str:
    (folder / "part-0.jsonl").write_bytes(json_lines(RECORDS[:2]))
    (folder / "part-1.jsonl").write_bytes(json_lines(RECORDS[2:]))
    (folder / "other.jsonl").write_text("{}")
    return f"{folder}/part-*.jsonl"


def as_deep_glob(folder: Path) -> str:
    for part, records in {"a": RECORDS[:2], "b": RECORDS[2:]}.items():
        (folder / part / "data").mkdir(parents=True)
        (folder / part / "data" / "rows.jsonl").write_bytes(json_lines(records))
        (folder / part / "rows.jsonl").write_text("{}")
    return f"{folder}/**/data/*.jsonl"


def as_name_with_brackets(folder: Path) -> Path:
    return as_jsonl(folder).rename(folder / "rows[1].jsonl")


def as_saved_dataset(folder: Path) -> Path:
    import datasets

    datasets.Dataset.from_list(RECORDS).save_to_disk(folder / "saved")
    return folder / "saved"


def as_saved_splits(folder: Path) -> Path:
    import datasets

    splits = {"train": datasets.Dataset.from_list(RECORDS)}
    splits["test"] = datasets.Dataset.from_list([{"id": "other", "text": "other"}])
    datasets.DatasetDict(splits).save_to_disk(folder / "saved")
    return folder / "saved"


def as_hub_repository(folder: Path) -> str:
    (folder / "data.jsonl").write_bytes(json_lines())
    return f"hf:{folder}"


FORMATS: list[Callable[[Path], Path | str]] = [
    *(as_jsonl, as_windows_jsonl, as_gzip, as_json_array, as_concatenated_json, as_csv, as_parquet),
    *(as_folder, as_glob, as_deep_glob, as_name_with_brackets),
    *(as_saved_dataset, as_saved_splits, as_hub_repository),
]


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_every_format_gives_the_same_rows(
    tmp_path: Path, write: Callable[[Path], Path | str]
) -> None:
    rows = read(write(tmp_path))
    wanted = [{"prompt": record["text"], "upstream_id": record["id"]} for record in RECORDS]
    assert [row.values for row in rows] == wanted
    assert {row.problem for row in rows} == {None}


def test_rows_say_which_file_they_come_from(tmp_path: Path) -> None:
    origins = [row.origin for row in read(as_glob(tmp_path))]
    assert origins == ["part-0.jsonl"] * 2 + ["part-1.jsonl"] * 3


def test_a_column_that_a_later_row_lacks_is_missing_there_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a", "text": "one"}\n{"text": "two"}\n')
    assert [row.values["upstream_id"] for row in read(path)] == ["a", None]


@pytest.mark.parametrize(
    ("count", "repeats"), [(100_000, 1), (3, 500_000)], ids=["many small", "few large"]
)
def test_a_large_json_array_is_read_whole_and_in_linear_time(
    tmp_path: Path, count: int, repeats: int
) -> None:
    records = [{"id": str(number), "text": '🦉"]}{,' * repeats} for number in range(count)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(records, ensure_ascii=False), "utf-8")
    assert path.stat().st_size > 3 * (1 << 20)
    started = time.process_time()
    json.loads(path.read_text("utf-8"))
    whole = time.process_time() - started
    found = [row.values for row in read(path)]
    assert found == [{"prompt": r["text"], "upstream_id": r["id"]} for r in records]
    assert time.process_time() - started < 2 + 30 * whole


@pytest.mark.slow
def test_memory_does_not_grow_with_the_source(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with path.open("w") as file:
        for number in range(200_000):
            file.write(f'{{"id": "{number}", "text": "prompt number {number}"}}\n')
    assert path.stat().st_size > 8_000_000
    tracemalloc.start()
    try:
        count = sum(1 for _ in rows_of(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 200_000
    assert peak < 4_000_000


# -- hub repositories ------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A folder laid out as on the hub: two configs, split ``wildchat``."""
    card = ["---", "configs:"]
    for config in ("wildchat-de", "wildchat-fr"):
        (tmp_path / config).mkdir()
        record = {"id": config, "text": f"prompt of {config}"}
        (tmp_path / config / "rows.jsonl").write_bytes(json_lines([record] * 2))
        card += [f"- config_name: {config}", "  data_files:", "  - split: wildchat"]
        card += [f"    path: {config}/rows.jsonl"]
    (tmp_path / "README.md").write_text("\n".join([*card, "---", ""]))
    return tmp_path


def test_configs_are_read_in_the_recipes_order_and_name_their_rows(repository: Path) -> None:
    rows = read(f"hf:{repository}", configs=["wildchat-fr", "wildchat-de"], split="wildchat")
    assert [row.origin for row in rows] == ["wildchat-fr"] * 2 + ["wildchat-de"] * 2
    assert rows[0].values["prompt"] == "prompt of wildchat-fr"


@pytest.mark.parametrize(
    ("reference", "known"),
    [
        ({"configs": ["wildchat-de", "wildchat-it"], "split": "wildchat"}, "wildchat-fr"),
        ({"configs": ["wildchat-de"], "split": "train"}, "wildchat"),
        ({"split": "wildchat"}, "wildchat-de"),
    ],
    ids=["config", "split", "no config"],
)
def test_an_unknown_config_or_split_is_refused_with_those_there_are(
    repository: Path, reference: dict[str, Any], known: str
) -> None:
    message = refusal(f"hf:{repository}", **reference)
    assert f"config {reference.get('configs', [None])[-1]}, split {reference['split']}" in message
    assert known in message


def test_a_repository_that_breaks_off_is_refused_with_its_config(repository: Path) -> None:
    rows = json_lines([{"id": "x", "text": "y" * 100}] * 3000) + b'{"id": "cut'
    (repository / "wildchat-de" / "rows.jsonl").write_bytes(rows)
    message = refusal(f"hf:{repository}", configs=["wildchat-de"], split="wildchat")
    assert "config wildchat-de, split wildchat" in message


def test_no_code_of_a_dataset_runs(tmp_path: Path) -> None:
    folder = tmp_path / "mix"
    folder.mkdir()
    witness = tmp_path / "witness"
    script = f"import pathlib\npathlib.Path({str(witness)!r}).write_text('ran')\n"
    for name in ("mix.py", "__init__.py", "conftest.py"):
        (folder / name).write_text(script)
    assert "no longer supported" in refusal(f"hf:{folder}")
    assert "no file at" in refusal(folder)
    as_jsonl(folder)
    assert len(read(folder)) == len(RECORDS)
    assert not witness.exists()


# -- what cannot be read ---------------------------------------------------------------------------


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_a_missing_column_is_named_with_those_found(
    tmp_path: Path, write: Callable[[Path], Path | str]
) -> None:
    message = refusal(write(tmp_path), columns={"prompt": "text", "origin_url": "url"})
    assert "no column url; found are id, text" in message
    assert "prompts.mix.columns" in message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", b""),
        ("rows.jsonl", b"\n \n"),
        ("rows.json", b"[]"),
        ("rows.csv", b"id,text\n"),
        ("rows.jsonl.gz", gzip.compress(b"", mtime=0)),
    ],
)
def test_an_empty_source_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert "has no rows" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows-*.jsonl", "*/rows.jsonl", "folder"])
def test_a_source_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    message = refusal(tmp_path / name)
    assert f"no file at {tmp_path / name}" in message
    assert ".parquet" in message


def test_a_format_that_is_not_readable_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.xlsx").write_bytes(b"PK")
    assert "rows.xlsx is none of .jsonl," in refusal(tmp_path / "rows.xlsx")


def test_a_split_that_was_not_saved_is_refused_with_those_that_were(tmp_path: Path) -> None:
    path = as_saved_splits(tmp_path)
    assert "no split validation; found are train, test" in refusal(path, split="validation")
    assert [row.values["prompt"] for row in read(path, split="test")] == ["other"]


def cut_gzip() -> bytes:
    whole = gzip.compress(json_lines([{"id": str(n), "text": str(n * n)} for n in range(9000)]))
    return whole[: len(whole) // 2]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl.gz", cut_gzip()),
        ("rows.jsonl.gz", b"no gzip at all"),
        ("rows.jsonl.gz", gzip.compress(json_lines())[:-12] + b"\xff" * 12),
        ("rows.parquet", b"PAR1 but no table PAR1"),
        ("rows.parquet", b""),
        ("rows.json", json.dumps(RECORDS).encode()[:-20]),
        ("rows.json", b'[{"id": "a", "text" "b"}, {"id": "c", "text": "d"}]'),
        ("rows.json", b'[{"id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]"),
    ],
    ids=[
        *("cut gzip", "no gzip", "gzip with a wrong sum", "no parquet", "empty parquet"),
        *("cut array", "broken array", "array without end"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert "cannot be read" in refusal(tmp_path / name)


def test_a_file_that_breaks_after_many_rows_is_refused_all_the_same(tmp_path: Path) -> None:
    records = [{"id": str(n), "text": f"{n:0200}"} for n in range(5000)]
    (tmp_path / "rows.json").write_bytes(json.dumps(records).encode()[:-5])
    rows = rows_of(tmp_path / "rows.json")
    assert next(rows).values["upstream_id"] == "0"
    with pytest.raises(SourceError, match=r"to its end: rows\.json"):
        list(rows)


# -- rows that cannot be read ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": "x", "text": ', "not JSON"),
        (b"<html>", "not JSON"),
        (b'{"id": "x", "text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON"),
        (b'{"id": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'["x", "y"]', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"id": "x", "text": "\xff\xfe"}', "invalid Unicode"),
        (b'{"id": "x", "text": "half \\ud83d"}', "invalid Unicode"),
        (b'{"id": "x", "text": "a\\u0000b"}', "a NUL character"),
        (b'{"id": "x", "text": null}', "no text"),
        (b'{"id": "x", "text": 5}', "not a text"),
        (b'{"id": "x", "text": " \\u2003\\n"}', "an empty text"),
        (b'{"id": "\xff", "text": "\\ud83d"}', "invalid Unicode"),
    ],
)
def test_a_broken_line_is_a_malformed_row_between_good_ones(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    good = json_lines(RECORDS[:1])
    (tmp_path / "rows.jsonl").write_bytes(good + line + b"\n" + good)
    made = rows_made_of(tmp_path / "rows.jsonl")
    assert [row["malformed_reason"] for row in made] == [None, reason, None]
    assert made[1]["messages"] is None
    assert len({row["prompt_id"] for row in made}) == 2  # a malformed row has a name, too
    assert json.dumps(made, ensure_ascii=False).encode("utf-8")  # any column can hold it


def test_values_of_an_array_that_are_no_objects_are_malformed_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(
        '[{"id": "a", "text": "b"}, 12, "x", [], [[]], {"text": "c"}]'
    )
    problems = [row.problem for row in read(tmp_path / "rows.json")]
    assert problems == [None, *["not a JSON object"] * 4, None]


def test_a_csv_line_with_too_many_or_too_few_fields_is_a_malformed_row(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("id,text\na,one\nb,two,three\nc\nd,four\n")
    made = rows_made_of(tmp_path / "rows.csv")
    reasons = [row["malformed_reason"] for row in made]
    assert reasons == [None, "more fields than columns", "fewer fields than columns", None]


# -- rows that are too large -----------------------------------------------------------------------

LIMIT = 3000
LARGE = "y" * 200_000
AROUND = [{"id": "a", "text": "before"}, {"id": "b", "text": LARGE}, {"id": "c", "text": "after"}]


def large_jsonl(folder: Path) -> Path:
    (folder / "rows.jsonl").write_bytes(json_lines(AROUND))
    return folder / "rows.jsonl"


def large_gzip(folder: Path) -> Path:
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(json_lines(AROUND)))
    return folder / "rows.jsonl.gz"


def large_json(folder: Path) -> Path:
    inside = {"text": '"[{\\' + LARGE * 12 + '\\"}]"', "id": "b", "more": [[{}], {"x": ["\\"]}]}
    (folder / "rows.json").write_text(json.dumps([AROUND[0], inside, AROUND[2]]))
    return folder / "rows.json"


def large_csv(folder: Path) -> Path:
    text = f'y"",\n{LARGE}\n"",""\r\n' * 12
    (folder / "rows.csv").write_text(f'id,text\na,before\nb,"{text}"\nc,after\n', newline="")
    return folder / "rows.csv"


def large_parquet(folder: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(AROUND), folder / "rows.parquet")
    return folder / "rows.parquet"


def large_saved(folder: Path) -> Path:
    import datasets

    datasets.Dataset.from_list(AROUND).save_to_disk(folder / "saved")
    return folder / "saved"


@pytest.mark.parametrize(
    "write",
    [large_jsonl, large_gzip, large_json, large_csv, large_parquet, large_saved],
    ids=lambda write: write.__name__,
)
def test_a_row_larger_than_allowed_is_malformed_between_others(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    recipe = changed_recipe({"max_row_bytes": LIMIT})
    reference = DatasetReference(dataset=str(write(tmp_path)), columns=COLUMNS)
    rows = list(read_rows("prompts.mix", reference, recipe))
    assert [row.values.get("prompt") for row in rows] == ["before", None, "after"]
    assert [row.problem for row in rows] == [None, "a row larger than max_row_bytes", None]
    # Allowed, it is read.
    assert len(read(reference.dataset)[1].values["prompt"]) >= len(LARGE)


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv"])
def test_memory_does_not_grow_with_a_row_that_is_too_large(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows.{ending}"
    start, end = {
        "jsonl": ('{"id": "a", "text": "before"}\n{"text": "', '"}\n'),
        "json": ('[{"id": "a", "text": "before"}, {"text": "', '"}]'),
        "csv": ('id,text\na,before\nb,"', '"\n'),
    }[ending]
    with path.open("w") as file:
        file.write(start)
        for _ in range(60):
            file.write("y" * 1_000_000)
        file.write(end)
    reference = DatasetReference(dataset=str(path), columns=COLUMNS)
    tracemalloc.start()
    rows = list(read_rows("prompts.mix", reference, changed_recipe({"max_row_bytes": LIMIT})))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [row.problem is None for row in rows] == [True, False]
    assert peak < 16_000_000


def test_utf_16_is_read_where_its_mark_says_so(tmp_path: Path) -> None:
    text = json_lines(ascii_only=False).decode()
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        mark = "" if encoding == "utf-16" else "\ufeff"
        (tmp_path / "rows.jsonl").write_bytes(f"{mark}{text}".encode(encoding))
        (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(f"{mark}{text}".encode(encoding)))
        for name in ("rows.jsonl", "rows.jsonl.gz"):
            found = [row.values["prompt"] for row in read(tmp_path / name)]
            assert found == [record["text"] for record in RECORDS]


# -- messages --------------------------------------------------------------------------------------


def test_a_message_names_some_of_many_columns_without_control_characters(tmp_path: Path) -> None:
    columns = ["a\x1b[31m\nb", *(f"column {number}" for number in range(100_000))]
    (tmp_path / "rows.jsonl").write_text(json.dumps(dict.fromkeys(columns, 1)))
    message = refusal(tmp_path / "rows.jsonl")
    assert "no column id, text; found are a\\x1b[31m\\nb, column 0," in message
    assert "and 99,981 more: map them under" in message
    assert len(message) < 1000 and message.isprintable()


def test_a_time_that_python_cannot_hold_is_told_in_a_line(tmp_path: Path) -> None:
    far = pa.array([2**62], pa.timestamp("us"))
    pq.write_table(pa.table({"id": ["a"], "text": ["x"], "at": far}), tmp_path / "rows.parquet")
    assert "cannot be read" in refusal(tmp_path / "rows.parquet", columns={**COLUMNS, "at": "at"})
    # Nobody is kept from the others.
    assert read(tmp_path / "rows.parquet")[0].values["prompt"] == "x"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("state.json", {"_data_files": [{"filename": "../other/data.arrow"}]}),
        ("state.json", {"_data_files": [{"filename": "/etc/hostname"}]}),
        ("state.json", {"_data_files": [{"name": "x"}]}),
        ("state.json", {"_data_files": 5}),
        ("state.json", []),
        ("state.json", "x"),
        ("state.json", None),
    ],
)
def test_records_of_a_saved_dataset_that_lead_astray_end_in_a_line(
    tmp_path: Path, file: str, content: Any
) -> None:
    path = as_saved_dataset(tmp_path)
    (path / file).write_text("{" if content is None else json.dumps(content))
    message = refusal(path)
    assert "records of the saved dataset cannot be used" in message and "save it again" in message


@pytest.mark.parametrize("splits", [["../elsewhere"], ["train", "/tmp"], "train", None])
def test_so_do_splits(tmp_path: Path, splits: Any) -> None:
    path = as_saved_splits(tmp_path)
    (path / "dataset_dict.json").write_text(json.dumps({"splits": splits}))
    assert "records of the saved dataset cannot be used" in refusal(path)


def test_a_link_out_of_a_saved_dataset_is_not_followed(tmp_path: Path) -> None:
    path = as_saved_dataset(tmp_path)
    (data,) = path.glob("*.arrow")
    outside = data.rename(tmp_path / "outside.arrow")
    data.symlink_to(outside)
    assert f"{data.name} is outside of saved" in refusal(path)


# -- rows that would take others along -------------------------------------------------------------


def test_a_quote_that_is_not_closed_stops(tmp_path: Path) -> None:
    lines = [f"{n},text {n}" for n in range(9)]
    lines[5] = '5,"it begins'
    (tmp_path / "rows.csv").write_text("\n".join(["id,text", *lines]))
    assert "a quoted text is not closed" in refusal(tmp_path / "rows.csv")
    # An inch is no quote, and a quoted text may have lines.
    (tmp_path / "rows.csv").write_text('id,text\na,"two\nlines"\nb,a 5" pipe')
    assert [row.values["prompt"] for row in read(tmp_path / "rows.csv")] == [
        "two\nlines",
        'a 5" pipe',
    ]


def test_arrays_one_after_another_are_read(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(f"{json.dumps(RECORDS[:3])}\n{json.dumps(RECORDS[3:])}")
    assert [row.values["prompt"] for row in read(tmp_path / "rows.json")] == [
        record["text"] for record in RECORDS
    ]


def test_a_header_is_no_part_of_a_row(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f"id,text,{'x' * 4000}\na,b,c\n")
    recipe = changed_recipe({"max_row_bytes": 100})
    reference = DatasetReference(dataset=str(tmp_path / "rows.csv"), columns=COLUMNS)
    assert [row.problem for row in read_rows("prompts.mix", reference, recipe)] == [None]


def test_a_saved_dataset_in_a_format_of_somebody_is_read(tmp_path: Path) -> None:
    import datasets

    chat = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    rows = datasets.Dataset.from_list([{"id": "a", "text": "b", "chat": chat}])
    rows.with_format("numpy").save_to_disk(tmp_path / "saved")
    columns = {"conversation": "chat"}
    (row,) = read(tmp_path / "saved", columns=columns)
    assert row.values["conversation"] == [dict(sorted(one.items())) for one in chat]


def test_an_unknown_time_zone_is_told_in_a_line(tmp_path: Path) -> None:
    at = pa.array([0], pa.timestamp("us", "Mars/X"))
    pq.write_table(pa.table({"id": ["a"], "text": ["x"], "at": at}), tmp_path / "rows.parquet")
    assert "Mars/X" in refusal(tmp_path / "rows.parquet", columns={**COLUMNS, "at": "at"})
