"""The command ``alignment-assets``. What Dagster's own command does well is left to it.

Here belongs which commands there are, what they take and what they say of themselves; what each
does has a module beside this one, which is imported when the command is called: who asks for help
or the version waits for no library of another command.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alignment_assets.commands import completing
from alignment_assets.commands.labels_app import labels_app
from alignment_assets.commands.lake_app import lake_app
from alignment_assets.commands.move_app import move
from alignment_assets.commands.options import (
    AsOfOption,
    FormatOption,
    LimitOption,
    OutputOption,
    RecipeOption,
    SnapshotOption,
    example,
    show_version,
)
from alignment_assets.commands.spool_app import spool_app
from alignment_assets.commands.terminal import Ended, complain
from alignment_assets.host.expected import EXPECTED, told

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Turn prompt collections into preference-alignment training data.",
)


@app.callback()
def alignment_assets(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Turn prompt collections into preference-alignment training data."""


@app.command(epilog=example("init my-study"))
def init(
    folder: Annotated[Path, typer.Argument(help="The folder; made if it is missing.")] = Path(),
) -> None:
    """Write what a study begins with into a folder: a recipe, sample data, Dagster's settings.

    What is there already is left as it is. In that folder all commands take its recipe.yaml.
    """
    from alignment_assets.commands.init import init

    init(folder)


@app.command(
    epilog=example(
        "materialize --select 'key:completions or key:rewards' --partition smollm2-135m-cool"
    )
)
def materialize(
    recipe: RecipeOption = None,
    limit: LimitOption = None,
    select: Annotated[
        str | None,
        typer.Option(
            help="Assets in Dagster's selection syntax; all of them by default.",
            autocompletion=completing.assets,
        ),
    ] = None,
    partition: Annotated[
        str | None,
        typer.Option(
            help="Only this source, model or policy, and only assets with such a partition.",
            autocompletion=completing.partitions,
        ),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Start nothing: show what would be made and asked, and what that would take.",
        ),
    ] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Print the traceback of a failure, too.")
    ] = False,
) -> None:
    """Materialize assets in this process, upstream first, and show what came out."""
    from alignment_assets.commands.materialize import materialize

    materialize(recipe, select, partition, plan, traceback)


@app.command(epilog=example("dev --recipe demo --port 3001"))
def dev(
    recipe: RecipeOption = None,
    limit: LimitOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port of the UI.")] = 3000,
) -> None:
    """Start the Dagster UI on http://127.0.0.1:3000, with the records of the recipe's home."""
    from alignment_assets.commands.dev import dev

    dev(recipe, port)


@app.command(epilog=example("query exclusions_by_rule -o exclusions.csv"))
def query(
    question: Annotated[
        str | None,
        typer.Argument(
            help="A question of sql/analysis, a file with one SELECT, the SELECT itself, or - for "
            "standard input.",
            autocompletion=completing.questions,
        ),
    ] = None,
    recipe: RecipeOption = None,
    limit: LimitOption = None,
    format: FormatOption = None,
    output: OutputOption = None,
    param: Annotated[
        list[str] | None, typer.Option(help="A parameter of the query, name=value.")
    ] = None,
    snapshot: SnapshotOption = False,
    as_of: AsOfOption = None,
    safe_csv: Annotated[
        bool,
        typer.Option(
            "--safe-csv", help="In CSV, put an apostrophe before texts that begin like a formula."
        ),
    ] = False,
) -> None:
    """Ask the database: read-only, and without access to any other file.

    Without a question, list those of sql/analysis. A table cuts long texts, and shows rows that are
    too wide as blocks; the other formats have every text whole.
    """
    from alignment_assets.commands.query import query

    query(question, recipe, format, output, param or [], snapshot, as_of, safe_csv)


@app.command(epilog=example("trace"))
def trace(
    id: Annotated[
        str | None,
        typer.Argument(help="A pair_id, prompt_id or completion_id; by default the first pair."),
    ] = None,
    recipe: RecipeOption = None,
    limit: LimitOption = None,
) -> None:
    """Show where a pair comes from: its scores, completions, prompt, grade, sources and licence.

    Long texts are cut; `query pair_trace --param pair_id=ID --format json` has all of them.
    """
    from alignment_assets.commands.trace import trace

    trace(id, recipe)


@app.command(epilog=example("snapshot --table dpo_pairs --table qrpo_samples -o tables"))
def snapshot(
    recipe: RecipeOption = None,
    limit: LimitOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A file, or with --table a new folder; by default in snapshots, beside the "
            "database.",
        ),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(
            help="Write this table as Parquet; may be given several times.",
            autocompletion=completing.tables,
        ),
    ] = None,
) -> None:
    """Keep the database as it is now, a copy or of a DuckLake a note, for `query --snapshot`."""
    from alignment_assets.commands.snapshot import snapshot

    snapshot(recipe, output, table or [])


@app.command(epilog=example("compare -o changes.md"))
def compare(
    a: Annotated[
        str | None,
        typer.Argument(
            help="A snapshot's file, or its name in the recipe's home; of a DuckLake a snapshot's "
            "number, or a moment; the folder of an export; or now, the database as it is. By "
            "default the last snapshot.",
            autocompletion=completing.states,
        ),
    ] = None,
    b: Annotated[
        str, typer.Argument(help="What it is compared with.", autocompletion=completing.states)
    ] = "now",
    recipe: RecipeOption = None,
    limit: LimitOption = None,
    format: FormatOption = None,
    output: OutputOption = None,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="List the single pairs, those that are kept last.")
    ] = False,
) -> None:
    """Show how the training set changed from A to B: pairs kept, changed, new and gone, and why.

    CSV, JSON and Parquet have all tables as one: the column `answer` tells which a row is of.
    """
    from alignment_assets.commands.compare import compare

    compare(a, b, recipe, format, output, pairs)


@app.command(epilog=example("status --recipe demo"))
def status(
    recipe: RecipeOption = None,
    limit: LimitOption = None,
    format: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Show rows, requests, what is missing and what is stale, for each table and partition."""
    from alignment_assets.commands.status import status

    status(recipe, format, output)


@app.command(epilog=example("report --recipe demo -o report.html"))
def report(
    recipe: RecipeOption = None,
    limit: LimitOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="A file to write to; by default report.html beside the database."
        ),
    ] = None,
    snapshot: SnapshotOption = False,
) -> None:
    """Write what the run made as one HTML page, for whoever opens no Dagster.

    It has the answers that the assets' pages have, of all partitions together, what is fresh, what
    was excluded and why, forecast against actual, and versions. It loads nothing from elsewhere.
    """
    from alignment_assets.commands.report import report

    report(recipe, output, snapshot)


@app.command(epilog=example("export --format dpo --to pairs"))
def export(
    recipe: RecipeOption = None,
    limit: LimitOption = None,
    format: Annotated[
        list[str] | None,
        typer.Option(
            help="A file of sql/exports; may be given several times. By default all of them.",
            autocompletion=completing.formats,
        ),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="A policy; may be given several times. By default all of the recipe.",
            autocompletion=completing.partitions,
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="A folder, of several policies with one for each in it, or hub:owner/name. By "
            "default exports, beside the database, with a folder for each policy."
        ),
    ] = None,
    split: Annotated[
        float | None,
        typer.Option(
            metavar="<share>",
            min=0,
            max=1,
            help="The share of prompts that go to a split test; by default the recipe's.",
        ),
    ] = None,
    upload: Annotated[
        bool, typer.Option("--upload", help="With --to hub:…: do it, in place of showing it.")
    ] = False,
) -> None:
    """Write training sets as files that a trainer takes, with a manifest and a data card.

    The folder replaces an older export when it is whole; any other folder is left alone. On the hub
    it is a private data set, by the token in HF_TOKEN.
    """
    from alignment_assets.commands.export import export

    export(recipe, format or [], policy or [], to, split, upload)


@app.command(epilog=example("tidy --recipe demo --apply"))
def tidy(
    recipe: RecipeOption = None,
    limit: LimitOption = None,
    apply: Annotated[bool, typer.Option("--apply", help="Remove what is shown.")] = False,
    answers: Annotated[
        bool, typer.Option("--answers", help="Only answers; tables and Dagster's records stay.")
    ] = False,
    where: Annotated[
        str | None,
        typer.Option(
            help="With --answers: those that meet this condition, in SQL over the columns of an "
            "answer, asset and partition. They are asked again by the next run."
        ),
    ] = None,
) -> None:
    """Show what left the recipe and which answers nobody asks for; with --apply, remove it.

    A source, model or policy that left loses its rows, its answers and Dagster's records of it.
    """
    from alignment_assets.commands.tidy import tidy

    tidy(recipe, apply, answers, where)


@app.command(epilog=example("doctor --recipe apertus"))
def doctor(recipe: RecipeOption = None, limit: LimitOption = None) -> None:
    """Look at GPUs, vLLM, memory, disk, models, datasets and the database: what would a run lack?

    Of each dataset the first rows are read, as a run would read them.
    """
    from alignment_assets.commands.doctor import doctor

    doctor(recipe)


@app.command(epilog=example("forecast --pilot 50"))
def forecast(
    recipe: RecipeOption = None,
    limit: LimitOption = None,
    pilot: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="First ask so many requests of each model and task that has no runs yet. Their "
            "answers count.",
        ),
    ] = None,
    format: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Tell what the pending requests will take: tokens, engine hours, disk, finish time.

    It goes by earlier runs of the same models and tasks. Forecasts are kept: what has run since one
    is shown against it.
    """
    from alignment_assets.commands.forecast import forecast

    forecast(recipe, pilot, format, output)


app.command(epilog=example("move --recipe mine.yaml --to on-lake.yaml"))(move)
app.add_typer(labels_app, name="labels")
app.add_typer(lake_app, name="lake")
app.add_typer(spool_app, name="spool")


def main() -> None:
    """Run the command; an expected failure is its message on standard error, and status 1."""
    try:
        app()
    except Ended as error:
        complain(str(error))
        raise SystemExit(error.status) from None
    except (KeyboardInterrupt, RuntimeError) as error:
        # DuckDB makes a RuntimeError of Ctrl-C in a question.
        if not any(isinstance(one, KeyboardInterrupt) for one in (error, error.__cause__)):
            raise
        complain("ended by SIGINT")
        raise SystemExit(130) from None
    except EXPECTED as error:
        complain(f"error: {told(error)}")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
