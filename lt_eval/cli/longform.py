"""`lt-eval longform`: what minutes of one stream do to a face, in several attention windows."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lt_eval.cli.base import RESULTS, given, resumable, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lt_eval.records import Row


@resumable
def longform(
    spec: Annotated[Path | None, typer.Argument(help="A specification such as benchmarks/longform/six.toml.")] = None,
    generator: Annotated[
        str | None, typer.Option(help="A generator by name or module:Class; default reference.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the generator, for all.")
    ] = None,
    configuration: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this configuration; may be given again.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Of each stream; default 300.")] = None,
    window: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="What one point stands for; default 30.")
    ] = None,
    people: Annotated[int | None, typer.Option(help="Procedural people; default 2.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many people.")] = None,
    size: Annotated[
        int | None, typer.Option(help="Side of portraits and true clips; the generator's by default.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Of the metrics: builtin (default) or official.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of sessions and intervals.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda ...")] = None,
    generator_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Longest wait for a sign of life of the generator; 1800.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Of the metrics; all cores by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default results/longform.")] = None,
) -> None:
    """Identity, motion, colour, sharpness, FID and Sync by half-minute, for six attention windows.

    Streams are written to the disk as they come. Run the same command again to continue a run that was stopped.
    """
    from lt_eval.progress import Progress
    from lt_eval.protocols.longform import run
    from lt_eval.protocols.longform_spec import build
    from lt_eval.spec import merge, parse_setting, read_toml

    tables = read_toml(spec) if spec else {}
    options: dict[str, Any] = {}
    for text in setting or []:
        options = merge(options, parse_setting(text.removeprefix("generator.")))
    flags = {
        "generator": generator,
        "options": options,
        "seconds": seconds,
        "window_s": window,
        "people": people,
        "limit": limit,
        "size": size,
        "weights": weights,
        "seed": seed,
        "device": device,
        "generator_timeout_s": generator_timeout,
        "threads": threads,
    }
    chosen = build(merge(tables, given(flags)))
    chosen = chosen.only(configuration) if configuration else chosen
    folder = out or RESULTS / "longform"
    with Progress() as progress:
        outcome = run(chosen, folder, progress=progress, say=progress.say)
    publish_long(folder)
    if outcome.failures:
        _say_failures(outcome.failures, folder)
        raise typer.Exit(1)


def publish_long(folder: Path) -> None:
    """Write the page of a finished run, and print its first and last window."""
    from lt_eval import report
    from lt_eval.report.longform import ends, read_long, write_page

    run = read_long(folder)
    index = write_page(run, folder / "report")
    sys.stdout.write(report.render("text" if sys.stdout.isatty() else "markdown", ends(run)))
    say(f"Report: {index}\nNumbers: {folder / 'longform.csv'} and .json\nLines: {folder / 'longform.svg'}")


def report_long(folders: Sequence[Path], format: str, out: Path | None) -> None:
    """Write the tables of first and last windows, or the page, of a finished run.

    Raises:
        SpecError: several runs, or a kind of run that is reported apart.
    """
    from lt_eval import report
    from lt_eval.errors import SpecError
    from lt_eval.report.longform import ends, read_long, to_csv, write_page

    if len(folders) > 1:
        raise SpecError("A run of lt-eval longform is reported by itself: name one folder.")
    run = read_long(folders[0])
    if format == "html":
        print(write_page(run, out or folders[0] / "report"))
        return
    text = to_csv(run.windows) if format == "csv" else report.render(format, ends(run))
    if out is None:
        sys.stdout.write(text)
    else:
        report.write_text(out, text)
        say(f"Wrote {out}")


def _say_failures(failures: Sequence[Row], folder: Path) -> None:
    reasons = Counter(row.failure.reason for row in failures if row.failure)
    say(", ".join(f"{reason}: {count} rows" for reason, count in sorted(reasons.items())))
    say(f"These have no value; {folder / 'report' / 'index.html'} has each one's message. Exit code 1.")
