"""The command ``alignment-assets``. What Dagster's own command does well is left to it.

Here belongs which commands there are; each has a module beside this one.
"""

from __future__ import annotations

from collections.abc import Callable

import typer

from alignment_assets.commands import (
    dev,
    doctor,
    forecast,
    materialize,
    models,
    query,
    snapshot,
    spool,
    status,
    tidy,
)
from alignment_assets.commands.terminal import Ended, Expected, errors, example

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Turn prompt collections into preference-alignment training data.",
)
# Each with the arguments of an example.
COMMANDS: dict[Callable[..., None], str] = {
    materialize.materialize: (
        "materialize --select 'key:completions or key:rewards' --partition smollm2-135m-cool"
    ),
    dev.dev: "dev --recipe demo --port 3001",
    query.query: "query exclusions_by_rule --format csv -o exclusions.csv",
    snapshot.snapshot: "snapshot --table dpo_pairs --table qrpo_samples -o tables",
    status.status: "status --recipe demo",
    tidy.tidy: "tidy --recipe demo --apply",
    doctor.doctor: "doctor --recipe apertus",
    forecast.forecast: "forecast --pilot 50",
}
for command, arguments in COMMANDS.items():
    app.command(epilog=example(arguments))(command)
app.add_typer(models.app, name="models")
app.add_typer(spool.app, name="spool")


def main() -> None:
    """Run the command; an expected failure is one line on standard error.

    So is what the system says of a file or folder that it names.
    """
    try:
        app()
    except Ended as error:
        _print(str(error))
        raise SystemExit(error.status) from None
    except Expected as error:
        _print(f"error: {error}")
        raise SystemExit(1) from None
    except OSError as error:
        if error.filename is None:
            raise
        _print(
            f"error: {error.filename}: {error.strerror}"
        )  # a disk, a right, a link that leads nowhere
        raise SystemExit(1) from None


def _print(text: str) -> None:
    errors.print(text, style="red", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
