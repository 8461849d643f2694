"""The command ``alignment-assets``. What Dagster's own command does well is left to it.

Here belong arguments and messages; the work is in the modules that are called.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from dagster import DagsterInstance, ExecuteInProcessResult
from rich.console import Console

from alignment_assets.commands import query as querying
from alignment_assets.definitions import build_defs, default_resources
from alignment_assets.host.hub import RevisionError
from alignment_assets.host.locking import LockTimeout
from alignment_assets.inference.fingerprint import ModelError
from alignment_assets.inference.spool import SpoolError
from alignment_assets.recipe.load import RecipeError, load_recipe
from alignment_assets.recipe.model import Recipe
from alignment_assets.warehouse.resource import WarehouseError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Turn prompt collections into preference-alignment training data.",
)
models_app = typer.Typer(no_args_is_help=True, help="The weights that recipes use.")
spool_app = typer.Typer(no_args_is_help=True, help="The answers of engines that are on disk.")
app.add_typer(models_app, name="models")
app.add_typer(spool_app, name="spool")
console = Console(width=None if sys.stdout.isatty() else 160)
errors = Console(stderr=True)

RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe", help="Name or path of the recipe (default: ALIGNMENT_RECIPE, then demo)."
    ),
]
FormatOption = Annotated[querying.Format, typer.Option("--format", help="How rows are written.")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="A file to write to.")]
# A model whose weights cannot be found.
MODEL_FAILURES = (ModelError, RevisionError, LookupError)


class Expected(Exception):
    """A failure that the user can act on; shown without a traceback."""


@app.command()
def materialize(
    recipe: RecipeOption = None,
    select: Annotated[
        str | None,
        typer.Option(help="Assets in Dagster's selection syntax; all of them by default."),
    ] = None,
    partition: Annotated[
        str | None,
        typer.Option(help="Only this model or policy, and only assets that are cut by it."),
    ] = None,
) -> None:
    """Materialize assets in this process, upstream first, and show what came out."""
    from alignment_assets.commands.materialize import SelectionError, execute_runs, plan_runs
    from alignment_assets.commands.summary import print_next_steps, print_summary
    from alignment_assets.commands.terminal import shown_progress

    chosen = _load(recipe)
    resources = default_resources(chosen)
    defs = build_defs(chosen, resources)
    try:
        runs = plan_runs(defs, select, partition)
    except SelectionError as error:
        raise Expected(str(error)) from error
    started = time.monotonic()
    totals = {
        "requests_asked": 0,
        "answers_reused": 0,
        "tokens_in": 0,
        "tokens_out": 0,
        "seconds_answering": 0.0,
    }
    failed_checks: list[str] = []
    with _instance() as instance, shown_progress(console):
        for number, run in enumerate(runs, start=1):
            console.print(f"[{number}/{len(runs)}] {run.label}", markup=False, highlight=False)
            for _, result in execute_runs(defs, [run], instance):
                failed_checks += _count(result, totals)
    seconds = time.monotonic() - started
    warehouse = resources["warehouse"]
    if select is None and partition is None:
        print_summary(warehouse, chosen, console)
    console.print(_spent(totals, seconds), highlight=False)
    print_next_steps(warehouse, recipe, console)
    if failed_checks:
        raise Expected(
            f"checks failed: {', '.join(failed_checks)}; see them in the UI or run sql/checks"
        )


@app.command()
def query(
    question: Annotated[
        str, typer.Argument(help="A question of sql/analysis, or a file with one SELECT.")
    ],
    recipe: RecipeOption = None,
    format: FormatOption = "table",
    output: OutputOption = None,
    param: Annotated[
        list[str] | None, typer.Option(help="A parameter of the query, name=value.")
    ] = None,
    snapshot: Annotated[
        bool, typer.Option("--snapshot", help="Ask the last snapshot; no writer waits for it.")
    ] = False,
) -> None:
    """Ask the database: read-only, and without access to any other file."""
    chosen = _load(recipe)
    with _expected(querying.QueryError):
        parameters = querying.parse_parameters(param or [])
        rows = querying.answer(
            default_resources(chosen)["warehouse"],
            chosen,
            querying.question_text(question),
            parameters,
            snapshot=snapshot,
        )
        querying.write(rows, format, output, console)


@app.command()
def snapshot(
    recipe: RecipeOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A file, or with --table a new folder; by default in <home>/snapshots.",
        ),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(help="Write this table as Parquet; may be given several times."),
    ] = None,
) -> None:
    """Copy the database as it is now, for readers who want to stay: `query --snapshot` asks it."""
    warehouse = default_resources(_load(recipe))["warehouse"]
    if not warehouse.is_there:
        raise Expected(f"no database {warehouse.path} yet; run `alignment-assets materialize`")
    try:
        made = warehouse.export(table, output) if table else warehouse.snapshot(output)
    except (WarehouseError, LockTimeout, OSError) as error:
        raise Expected(str(error)) from error
    console.print(f"{made}", soft_wrap=True, markup=False, highlight=False)


@app.command()
def status(recipe: RecipeOption = None) -> None:
    """Show rows, requests, what is missing and what is stale, for each table and partition."""
    from alignment_assets.commands.status import table_status

    chosen = _load(recipe)
    resources = default_resources(chosen)
    try:
        with _instance() as instance:
            rows = table_status(
                resources["warehouse"], chosen, build_defs(chosen, resources), instance
            )
    except querying.QueryError as error:
        raise Expected(str(error)) from error
    querying.show(rows, console)


@app.command()
def doctor(recipe: RecipeOption = None) -> None:
    """Look at GPUs, vLLM, memory, disk, models and the database, and say what a run would lack."""
    from alignment_assets.commands.doctor import examine

    chosen = _load(recipe)
    resources = default_resources(chosen)
    signs = {
        "ok": "[green]ok[/]     ",
        "warning": "[yellow]warning[/]",
        "problem": "[red]problem[/]",
    }
    problems = 0
    for finding in examine(resources["warehouse"], chosen, resources["gpus"]):
        console.print(f"{signs[finding.verdict]} {finding.subject}: ", end="", highlight=False)
        console.print(finding.text, markup=False, highlight=False, soft_wrap=True)
        problems += finding.verdict == "problem"
    if problems:
        raise typer.Exit(1)


@app.command()
def forecast(
    recipe: RecipeOption = None,
    pilot: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="First ask so many requests of each model and task that has no runs yet. Their "
            "answers count.",
        ),
    ] = None,
    format: FormatOption = "table",
    output: OutputOption = None,
) -> None:
    """Tell what the pending requests will take: tokens, engine hours, disk, finish time.

    It goes by earlier runs of the same models and tasks. Forecasts are kept: what has run since one
    is shown against it.
    """
    from alignment_assets.commands.forecast import (
        SHOWN_OF_ACTUAL,
        Forecaster,
        for_terminal,
        now_utc,
        total_line,
    )

    chosen = _load(recipe)
    resources = default_resources(chosen)
    warehouse = resources["warehouse"]
    forecaster = Forecaster(
        warehouse,
        resources["inference"],
        resources["gpus"],
        chosen,
        lambda line: errors.print(line, markup=False, highlight=False, soft_wrap=True),
    )
    with _expected(SpoolError, LockTimeout, querying.QueryError, *MODEL_FAILURES):
        if pilot:
            forecaster.pilot(pilot)
        now = now_utc()
        rows = forecaster.forecast(forecaster.pending(), now)
        forecaster.keep(rows, now)
        if format != "table" or output:
            querying.write(rows, format, output, console)
            return
        querying.show(for_terminal(rows), console)
        console.print(total_line(rows), highlight=False, soft_wrap=True)
        actual = querying.answer(
            warehouse, chosen, querying.question_text("forecast_against_actual"), {}
        )
    if actual.num_rows:
        shown = actual.select([*SHOWN_OF_ACTUAL]).rename_columns([*SHOWN_OF_ACTUAL.values()])
        querying.show(shown, console, "Forecast against actual")


@spool_app.command("list")
def list_answers(
    recipe: RecipeOption = None, format: FormatOption = "table", output: OutputOption = None
) -> None:
    """Show what answers each asset and partition has, also those that left the recipe."""
    from alignment_assets.commands.spool import list_spool

    chosen = _load(recipe)
    with _expected(SpoolError, querying.QueryError):
        rows = list_spool(default_resources(chosen)["warehouse"].home, chosen)
        querying.write(rows, format, output, console)


@spool_app.command("verify")
def verify_answers(recipe: RecipeOption = None) -> None:
    """Read every file in full; set aside (rename, never delete) those that cannot be read.

    Ends with status 1 if there were any; run the partitions again, and their requests are asked.
    """
    from alignment_assets.commands.spool import verify_spool

    chosen = _load(recipe)
    home = default_resources(chosen)["warehouse"].home
    with console.status("reading"):
        rows, set_aside = verify_spool(home, chosen)
    querying.show(rows, console)
    spare = sum(rows["spare_answers"].to_pylist()) if rows.num_rows else 0
    if spare:
        console.print(
            f"{spare:,} spare answers: of several to a request the first final one in file order "
            f"counts, the others do no harm.",
            highlight=False,
        )
    for line in set_aside:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if set_aside:
        raise typer.Exit(1)


@spool_app.command("prune")
def prune_answers(
    recipe: RecipeOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Drop without asking.")] = False,
) -> None:
    """Drop answers to requests that are no longer asked, after a look at what would go."""
    from alignment_assets.commands.spool import cuts_table, plan_cuts, prune_spool
    from alignment_assets.requests.request_sets import all_questions

    chosen = _load(recipe)
    resources = default_resources(chosen)
    warehouse = resources["warehouse"]
    if not warehouse.path.exists():
        raise Expected(f"no database {warehouse.path}: nothing says which requests there are")
    with _expected(SpoolError, LockTimeout, *MODEL_FAILURES):
        questions = all_questions(
            chosen, lambda model: resources["inference"].fingerprint(model, chosen, warehouse.home)
        )
        with warehouse.read() as connection:
            cuts = plan_cuts(connection, warehouse.home, chosen, questions)
        querying.show(cuts_table(cuts), console)
        if not any(cut.dropped or cut.folder.left_over for cut in cuts):
            console.print("Nothing to drop.")
            return
        if not yes:
            typer.confirm("Drop these answers for good?", abort=True)
        cuts = prune_spool(warehouse, chosen, questions)
    console.print(
        f"Dropped {sum(cut.dropped for cut in cuts):,} answers, "
        f"about {sum(cut.freed for cut in cuts):,} bytes.",
        highlight=False,
    )


@models_app.command("prepare-demo")
def prepare_demo() -> None:
    """Unpack SmolLM2-135M-Instruct, which the demo runs on, into data/models."""
    from alignment_assets.commands.demo_model import prepare_demo_model

    chosen = _load("demo")
    folder = chosen.resolve(chosen.models["smollm2-135m"].weights).resolve()
    try:
        made = prepare_demo_model(folder)
    except FileNotFoundError as error:
        raise Expected(str(error)) from error
    console.print(
        f"{folder}: {'written' if made else 'there already'}", soft_wrap=True, highlight=False
    )


def main() -> None:
    """Run the command; an expected failure is one line on standard error."""
    try:
        app()
    except Expected as error:
        errors.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(1) from None


@contextmanager
def _expected(*kinds: type[Exception]) -> Iterator[None]:
    """Show these errors without a traceback."""
    try:
        yield
    except kinds as error:
        raise Expected(str(error)) from error


def _load(name: str | None) -> Recipe:
    try:
        return load_recipe(name)
    except RecipeError as error:
        raise Expected(str(error)) from error


def _instance() -> DagsterInstance:
    """Return the Dagster instance of this folder's dagster.yaml, or one that is not kept."""
    if "DAGSTER_HOME" not in os.environ and Path("dagster.yaml").exists():
        os.environ["DAGSTER_HOME"] = str(Path.cwd())
    if "DAGSTER_HOME" not in os.environ:
        errors.print("no dagster.yaml here and no DAGSTER_HOME: the UI will not know of these runs")
        return DagsterInstance.ephemeral()
    return DagsterInstance.get()


def _count(result: ExecuteInProcessResult, totals: dict[str, float]) -> list[str]:
    """Add up what a run's materializations say they did; return the checks that failed."""
    for event in result.all_events:
        if event.is_step_materialization:
            metadata = event.step_materialization_data.materialization.metadata
            for name in totals:
                value = metadata[name].value if name in metadata else None
                if isinstance(value, int | float):
                    totals[name] += value
    return [
        f"{e.asset_key.to_user_string()}: {e.check_name}"
        for e in result.get_asset_check_evaluations()
        if not e.passed
    ]


def _spent(totals: dict[str, float], seconds: float) -> str:
    asked, reused = int(totals["requests_asked"]), int(totals["answers_reused"])
    if asked == reused == 0:
        return f"No engine was needed. {seconds:.0f} s in all."
    if asked == 0:
        return (
            f"No inference: all {reused:,} requests were answered before. {seconds:.0f} s in all."
        )
    engine = totals["seconds_answering"]
    speed = totals["tokens_out"] / engine if engine else 0.0
    return (
        f"{asked:,} requests asked, {reused:,} answered before; "
        f"{int(totals['tokens_in']):,} tokens in, {int(totals['tokens_out']):,} out "
        f"in {engine:.0f} s of engine time ({speed:,.0f} tokens/s out). {seconds:.0f} s in all."
    )


if __name__ == "__main__":
    main()
