"""What people see of each table in the UI: questions answered, pictures, numbers, whose texts."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from dagster import (
    AssetKey,
    AssetMaterialization,
    AssetRecordsFilter,
    DagsterInstance,
    MarkdownMetadataValue,
    TableMetadataValue,
)
from PIL import Image

from alignment_assets.assets.pages import CHARACTERS, drawn_answers, page_metadata
from alignment_assets.commands.failures import LaunchFailed
from alignment_assets.pages import pictures
from alignment_assets.pages import questions as pages
from alignment_assets.pages.answers import Answer
from alignment_assets.pages.pictures import BYTES, picture
from alignment_assets.pages.questions import Form, PageError, Question, questions_of
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.query import Rows
from alignment_assets.warehouse.resource import WarehouseError
from tests.conftest import DRAWN, Graph, demo_graph

POLICY = "smollm2-135m-policy"
# What the issue of each table is, and whether its shape is drawn.
PAGES = {
    "source_prompts": ({"prompts_read", "malformed_prompts", "sample_prompts"}, False),
    "prompt_exclusions": ({"rows_left_by_rule", "refusing_domains"}, True),
    "licensed_prompts": ({"rows_left_by_rule", "refusing_domains", "consent_decisions"}, True),
    "grader_trials": ({"trials_by_grade", "trials_against_people"}, True),
    "grader_agreement": ({"graders_compared", "graders_paired"}, True),
    "controversy_labels": ({"grade_distribution", "controversial_share_by_source"}, True),
    "controversy_agreement": ({"agreement_by_threshold"}, True),
    "recipes": ({"recipe_settings"}, False),
    "completion_requests": ({"requests_by_variant", "principles_drawn"}, True),
    "completions": ({"completion_lengths", "truncation_by_model", "sample_completions"}, True),
    "rewards": ({"reward_distribution", "reward_by_model_and_variant", "score_mass"}, True),
    "degraded_answers": ({"sample_ladders"}, False),
    "calibration_answers": ({"scores_by_step"}, True),
    "judge_calibration": ({"judges_measured", "scores_by_step"}, True),
    "judge_comparisons": ({"judge_order_bias"}, False),
    "judge_rankings": ({"wins_by_model"}, True),
    "policy_tokens": ({"sequence_lengths"}, True),
    "quantile_rewards": ({"reward_quantiles"}, False),
    "dpo_pairs": ({"pairs_by_model", "reward_margins", "bands_of_pairs", "sample_pairs"}, True),
    "qrpo_samples": ({"samples_by_model"}, True),
    "reference_logprobs": ({"logprobs_of_pairs"}, False),
    "selection_report": (
        {"strategies_compared", "strategies_sides", "strategies_overlap"},
        True,
    ),
    "training_export": ({"left_out_of_exports"}, False),
}


@pytest.fixture(scope="module", autouse=True)
def _pictures_are_drawn() -> Iterator[None]:
    blank, pictures._drawn = pictures._drawn, DRAWN
    yield
    pictures._drawn = blank


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """The demo, materialized once for the tests that only look."""
    with DagsterInstance.ephemeral() as instance:
        graph = demo_graph(tmp_path_factory.mktemp("pages"), instance)
        graph.materialize()
        yield graph


def page(graph: Graph, table: str, partition: str | None = None) -> AssetMaterialization:
    wanted = AssetRecordsFilter(
        AssetKey(table), asset_partitions=[partition] if partition else None
    )
    found = graph.instance.fetch_materializations(wanted, limit=1).records[0]
    assert found.asset_materialization
    return found.asset_materialization


def table_of(shown: AssetMaterialization, question: str) -> list[Mapping[str, Any]]:
    value = shown.metadata[question]
    assert isinstance(value, TableMetadataValue)
    return [record.data for record in value.records]


@pytest.mark.parametrize("table", PAGES)
def test_a_page_answers_the_questions_about_its_table(made: Graph, table: str) -> None:
    questions, drawn = PAGES[table]
    shown = page(made, table)
    for question in questions:
        assert isinstance(shown.metadata[question], TableMetadataValue)
    keys = [key for key in shown.metadata if key.endswith(": picture")]
    assert bool(keys) == drawn
    for key in keys:
        value = shown.metadata[key]
        assert isinstance(value, MarkdownMetadataValue)
        found = re.fullmatch(r"!\[[\w ]+\]\(data:image/png;base64,([\w+/=]+)\)", value.value)
        assert found
        content = base64.b64decode(found[1])
        assert len(content) <= BYTES
        image = Image.open(BytesIO(content))
        assert image.format == "PNG"
        assert len(image.convert("RGB").getcolors(2**20) or []) > 5  # more than an empty frame


def test_a_page_has_the_figures_of_its_partition_alone(made: Graph) -> None:
    for model in made.recipe.answering_models:
        shown = page(made, "rewards", model)
        rows = table_of(shown, "reward_by_model_and_variant")
        assert {row["model"] for row in rows} == {model}
        ((count, mean, correlation),) = made.query(
            "SELECT count(reward), round(avg(reward), 4), round(corr(reward, text_tokens), 4) "
            f"FROM rewards JOIN completions USING (completion_id) WHERE rewards.model = '{model}'"
        )
        assert sum(int(row["rewarded"]) for row in rows) == count
        assert shown.metadata["mean reward"].value == mean
        found = shown.metadata.get("correlation with length")
        assert (found.value if found else None) == (correlation if isfinite(correlation) else None)
    (read,) = made.query("SELECT count(*) FROM source_prompts WHERE dataset = 'prism_prompts'")
    rows = table_of(page(made, "source_prompts", "prism_prompts"), "prompts_read")
    assert (sum(int(row["rows_read"]) for row in rows),) == read


def test_a_pages_table_says_what_the_question_says(made: Graph) -> None:
    rows = table_of(page(made, "dpo_pairs", POLICY), "pairs_by_model")
    pairs = made.query("SELECT count(*) FROM dpo_pairs")[0][0]
    for side in ("chosen", "rejected"):
        assert sum(int(row["completions"]) for row in rows if row["side"] == side) == pairs
    left = table_of(page(made, "licensed_prompts"), "rows_left_by_rule")
    assert (sum(int(row["rows_left"]) for row in left if row["step"] == "limit"),) == (
        made.query("SELECT count(*) FROM licensed_prompts")[0]
    )


def test_whose_texts_are_shown_is_on_record_by_run(made: Graph) -> None:
    for table, partition, question, ids in (
        ("source_prompts", "prism_prompts", "sample_prompts", "prompt_id"),
        ("completions", POLICY, "sample_completions", "completion_id"),
        ("dpo_pairs", POLICY, "sample_pairs", "pair_id"),
    ):
        rows = table_of(page(made, table, partition), question)
        assert rows
        noted = made.query(
            "SELECT text_id, run_id FROM shown_texts "
            "WHERE asset = $asset AND partition = $partition AND question = $question",
            {"asset": table, "partition": partition, "question": question},
        )
        assert {row_id for row_id, _ in noted} == {str(row["row_id"]) for row in rows}
        (run_id,) = {run_id for _, run_id in noted}
        assert made.instance.get_run_by_id(run_id)
        known = made.query(f"SELECT count(*) FROM {table} WHERE {ids}::VARCHAR IN $ids",
                           {"ids": [row_id for row_id, _ in noted]})  # fmt: skip
        assert known[0][0] >= len(noted)


def test_texts_stand_nowhere_else_on_a_page(made: Graph) -> None:
    """What a withdrawal could not find: texts in answers whose rows are not on record."""
    texts = [
        text
        for (text,) in made.query(
            "SELECT text FROM completions WHERE length(text) > 15 UNION "
            "SELECT messages[-1].content FROM source_prompts WHERE len(messages[-1].content) > 15"
        )
    ]
    assert len(texts) > 100
    looked = 0
    for table in PAGES:
        for question in questions_of(table):
            if (
                question.form == "texts"
                or question.name not in (shown := page(made, table)).metadata
            ):
                continue
            for row in table_of(shown, question.name):
                cells = [str(value) for value in row.values()]
                looked += len(cells)
                assert not [text for text in texts for cell in cells if text in cell], question
    assert looked > 500


def test_shown_texts_stay_when_rows_are_made_again(materialized: Callable[..., Graph]) -> None:
    graph = materialized("key:source_prompts")
    before = graph.query("SELECT count(*), count(DISTINCT run_id) FROM shown_texts")
    graph.materialize("key:source_prompts", "prism_prompts")
    ((rows, runs),) = graph.query("SELECT count(*), count(DISTINCT run_id) FROM shown_texts")
    assert (rows > before[0][0], runs) == (True, before[0][1] + 1)


def test_a_question_that_fails_leaves_the_old_rows(
    materialized: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = materialized("+key:alignment_prompts")
    read = sql_files.read_sql

    def broken(kind: str, name: str) -> str:
        if (kind, name) == ("analysis", "prompts_by_track"):
            return (
                "-- Page: alignment_prompts as bars: track, prompts, dataset\n"
                "SELECT track, 'many'::INTEGER AS prompts, 'one' AS dataset FROM alignment_prompts"
            )
        return read(kind, name)

    monkeypatch.setattr(sql_files, "read_sql", broken)
    before = graph.query("SELECT version FROM lineage WHERE upstream IS NULL ORDER BY ALL")
    with pytest.raises(WarehouseError, match=r"sql/analysis/prompts_by_track\.sql.*'many'"):
        _raised(graph, "key:alignment_prompts")
    after = graph.query("SELECT version FROM lineage WHERE upstream IS NULL ORDER BY ALL")
    assert after == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no_table", "tables of sql/schema"),
        ("rewards as pie: model, wins", "bars, lines, texts or numbers"),
        ("rewards as bars: model", "names 1 columns; as bars it names 2 to 3"),
        ("rewards as bars", "names 0 columns"),
        ("rewards as numbers: model", "names 1 columns; as numbers it names none"),
        ("rewards, and more", "cannot be read"),
    ],
)
def test_a_line_that_says_no_page_is_told(
    monkeypatch: pytest.MonkeyPatch, line: str, message: str
) -> None:
    text = f"-- Why?\n-- Page: {line}\nSELECT 1"
    monkeypatch.setattr(sql_files, "sql_names", lambda kind: ["my_question"])
    monkeypatch.setattr(sql_files, "read_sql", lambda kind, name: text)
    pages._questions.cache_clear()
    try:
        with pytest.raises(PageError, match=message) as error:
            questions_of("rewards")
        assert "sql/analysis/my_question.sql" in str(error.value)
    finally:
        monkeypatch.undo()
        pages._questions.cache_clear()


def drawn(form: Any, columns: tuple[str, ...], values: list[tuple[Any, ...]]) -> bytes | None:
    question = Question("shape", ("rewards",), form, columns)
    return picture(Answer(question, Rows(columns, ["VARCHAR"] * len(columns), values)))


def test_a_picture_of_odd_values_is_drawn() -> None:
    odd = ["$x^$", "a" * 300, "\x1b[31m", None, "<b>", "日本語", 'q"uote']
    values = [(name, number, kind) for number, name in enumerate(odd) for kind in range(12)]
    assert drawn("bars", ("model", "n", "kind"), values)
    assert drawn("bars", ("place", "n"), [(float(n % 97), n) for n in range(3000)])
    assert drawn("bars", ("place", "n"), [(None, None)]) is None
    assert drawn("bars", ("place", "n"), [(1, None)])
    assert drawn("bars", ("place", "n"), []) is None
    assert drawn(
        "lines", ("x", "y", "y_low", "y_high"), [(1, 0.5, 0.4, 0.6), (2, None, None, None)]
    )


def test_texts_on_a_page_take_no_effect() -> None:
    hostile = "\x1b[31mred\x1b[0m <script>alert(1)</script> ![](http://evil.example/x) " + "x" * 999
    rows = Rows(["row_id", "text"], ["UUID", "VARCHAR"], [("an id", hostile)])
    shown = page_metadata([Answer(Question("sample", ("completions",), "texts"), rows)])
    # A table's cells are text to the UI; only Markdown would be read, and none is made of texts.
    assert not [value for value in shown.values() if isinstance(value, MarkdownMetadataValue)]
    value = shown["sample"]
    assert isinstance(value, TableMetadataValue)
    cell = str(value.records[0].data["text"])
    assert "\x1b" not in cell
    assert len(cell) == CHARACTERS
    assert cell.endswith("…")


def test_groups_flow_one_way_and_tables_say_what_they_are(graph: Graph) -> None:
    nodes = graph.defs.resolve_asset_graph()
    order = ["prompts", "controversy", "completions", "rewards", "training_sets"]
    for key in nodes.get_all_asset_keys():
        node, table = nodes.get(key), key.to_user_string()
        for parent in node.parent_keys:
            above = nodes.get(parent).group_name
            assert order.index(above) <= order.index(node.group_name), (parent, key)
        assert node.metadata["dagster/table_name"] == f"alignment.main.{table}"
        assert node.tags["stage"] == node.group_name
        links = node.metadata["dagster/code_references"].code_references
        assert all(Path(link.file_path).is_file() for link in links)
        assert (f"sql/assets/{table}.sql" in [link.label for link in links]) == (
            table in sql_files.sql_names("assets")
        )
    assert nodes.get(AssetKey("licensed_prompts")).owners == ["team:data-stewards"]
    assert nodes.get(AssetKey("dpo_pairs")).tags["personal"] == "yes"
    assert "personal" not in nodes.get(AssetKey("rewards")).tags


def test_a_materialization_names_the_file_that_its_rows_are_in(made: Graph) -> None:
    value = page(made, "dpo_pairs", POLICY).metadata["dagster/uri"].value
    assert value == made.warehouse.path.resolve().as_uri()


def test_a_check_carries_its_numbers_and_its_sql(materialized: Callable[..., Graph]) -> None:
    graph = materialized("+key:controversy_labels").with_checks()
    with graph.warehouse.get_connection() as connection:
        connection.execute("UPDATE controversy_labels SET grade = 9 WHERE grade IS NOT NULL")
    job = graph.defs.resolve_implicit_global_asset_job_def()
    keys = graph.defs.resolve_asset_graph().asset_check_keys
    result = job.get_subset(
        asset_selection=set(),
        asset_check_selection={
            key for key in keys if key.asset_key == AssetKey("controversy_labels")
        },
    ).execute_in_process(instance=graph.instance, raise_on_error=False)
    found = {check.check_name: check for check in result.get_asset_check_evaluations()}
    ((labels, graded),) = graph.query("SELECT count(*), count(grade) FROM controversy_labels")
    (broken,) = (check for check in found.values() if "offending_rows" in check.metadata)
    assert (broken.passed, broken.severity.name) == (False, "ERROR")
    assert broken.metadata["rows checked"].value == labels
    assert broken.metadata["offending"].value == graded > 5
    assert "FROM controversy_labels" in str(broken.metadata["sql"].value)
    assert "Enforced before rows are published" in (broken.description or describe(graph, broken))
    kept = next(check for check in found.values() if check.passed and "sql" in check.metadata)
    assert kept.metadata["offending"].value == 0
    assert found["belongs_together"].severity.name == "WARN"


def describe(graph: Graph, check: Any) -> str:
    return str(graph.defs.resolve_asset_graph().get_check_spec(check.asset_check_key).description)


def test_a_withdrawn_prompt_is_found_in_what_was_shown(made: Graph) -> None:
    ((prompt,),) = made.query(
        "SELECT prompt_id FROM shown_texts WHERE question = 'sample_pairs' ORDER BY ALL LIMIT 1"
    )
    runs = made.query(
        "SELECT DISTINCT question, run_id FROM shown_texts WHERE prompt_id::VARCHAR = $prompt",
        {"prompt": prompt},
    )
    (text,) = made.query(
        "SELECT left(prompt[-1].content, 40) FROM dpo_pairs WHERE prompt_id::VARCHAR = $prompt",
        {"prompt": prompt},
    )[0]
    shown = table_of(page(made, "dpo_pairs", POLICY), "sample_pairs")
    assert [row for row in shown if str(row["prompt"]).startswith(text)]
    assert "sample_pairs" in {question for question, _ in runs}


def test_values_that_cannot_be_drawn_or_counted_are_shown_as_text() -> None:
    odd = [
        ("text as a height", "bars", ("a", "b"), ["VARCHAR", "VARCHAR"], [("x", "high")]),
        ("a list as a place", "bars", ("a", "b"), ["INTEGER[]", "BIGINT"], [([1], 2)]),
        ("huge", "lines", ("a", "b"), ["DOUBLE", "DOUBLE"], [(1.0, 1e308), (2.0, -1e308)]),
        ("half a band", "lines", ("a", "b", "b_low"), ["BIGINT"] * 3, [(1, 2, 1)]),
        ("decimals", "table", (), ["DECIMAL(3,1)[]"], [([Decimal("1.5")],)]),
        ("a map", "table", (), ["MAP(UUID, INTEGER)"], [({UUID(int=1): 2},)]),
    ]
    for name, form, columns, types, values in odd:
        rows = Rows(columns or ["value"], types, values)
        answer = Answer(Question(name, ("rewards",), cast("Form", form), columns), rows)
        assert drawn_answers([answer]).keys() <= {f"{name}: picture"}
        value = page_metadata([answer])[name]
        assert isinstance(value, TableMetadataValue) and len(value.records) == len(values)


def test_rules_are_told_before_pages(
    materialized: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = materialized("+key:alignment_prompts")
    read = sql_files.read_sql

    def broken(kind: str, name: str) -> str:
        text = read(kind, name)
        if (kind, name) == ("assets", "alignment_prompts"):
            return text.replace("merged.controversial THEN", "true THEN 'nowhere' WHEN true THEN")
        return text

    monkeypatch.setattr(sql_files, "read_sql", broken)
    with pytest.raises(WarehouseError, match=r"the rule sql/checks/alignment_prompts/"):
        _raised(graph, "key:alignment_prompts")


def test_a_line_that_says_no_page_stops_the_graph_from_loading(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = sql_files.read_sql

    def broken(kind: str, name: str) -> str:
        text = read(kind, name)
        wrong = (kind, name) == ("analysis", "score_mass")
        return text.replace("-- Page: rewards", "-- Page: reward") if wrong else text

    monkeypatch.setattr(sql_files, "read_sql", broken)
    pages._questions.cache_clear()
    try:
        with pytest.raises(PageError, match=r"sql/analysis/score_mass\.sql"):
            _ = graph.defs
    finally:
        monkeypatch.undo()
        pages._questions.cache_clear()


def _raised(graph: Graph, selection: str) -> None:
    """Materialize, and raise what the step raised."""
    try:
        graph.materialize(selection)
    except LaunchFailed as error:
        cause = error.__cause__
        raise cause or error from None
