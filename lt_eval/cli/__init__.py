"""The command line: flags to a RunSpec, a RunSpec to a protocol. No logic of its own.

Standard output is data, standard error is progress and messages. Exit codes: 0 everything scored, 1 some rows failed,
2 unusable input, 130 interrupted. One module a command; this one joins them.
"""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from lt_eval import __version__
from lt_eval.cli.base import say
from lt_eval.cli.bench import bench
from lt_eval.cli.data import data_app
from lt_eval.cli.distill import distill
from lt_eval.cli.generate import generate
from lt_eval.cli.judge import judge_app
from lt_eval.cli.longform import longform
from lt_eval.cli.multiround import multiround
from lt_eval.cli.report import report_
from lt_eval.cli.single import single
from lt_eval.cli.validate import validate
from lt_eval.cli.weights import weights_app
from lt_eval.errors import LtEvalError

app = typer.Typer(
    name="lt-eval",
    help="Evaluation and benchmarks for real-time talking-avatar video generation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(single)
app.command()(multiround)
app.command()(validate)
app.command()(generate)
app.command()(bench)
app.command()(longform)
app.command("report")(report_)
app.command("distill")(distill)
app.add_typer(data_app, name="data")
app.add_typer(judge_app, name="judge")
app.add_typer(weights_app, name="weights")


@app.command("list")
def list_() -> None:
    """Print what can be named: metrics, data sets, generators and the rest, installed plugins included."""
    from lt_eval.registry import KINDS, targets

    for kind in KINDS:
        for name, target in targets(kind).items():
            print(f"{kind:<13} {name:<20} {target}")


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Evaluation and benchmarks for real-time talking-avatar video generation."""


def main() -> NoReturn:
    """Run the command line; a user's mistake is a message, never a traceback."""
    try:
        app()
    except LtEvalError as error:
        say(f"error: {error}")
        sys.exit(2)
    sys.exit(0)
