"""`lt-eval report`, and what other commands print and write when a run is finished."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lt_eval.cli.base import RESULTS, say
from lt_eval.errors import SpecError, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence


def publish(folder: Path) -> None:
    """Write every form of the table into the run folder, and print it."""
    from lt_eval import report
    from lt_eval.report import html
    from lt_eval.report.runs import read_run
    from lt_eval.store import read_summary

    summaries = [read_summary(folder)]
    tables = folder / "tables"
    for name, format, tidy in _TABLE_FILES:
        report.write_text(tables / name, report.render(format, summaries, tidy=tidy))
    index = html.write([read_run(folder)], folder / "report")
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        sys.stdout.write(report.render("text", summaries, width=width, color=True))
    else:
        sys.stdout.write(report.render("markdown", summaries))
    say(f"Report: {index}\nTables: {tables}{os.sep}")


_TABLE_FILES = (
    ("table.md", "markdown", False),
    ("table.csv", "csv", False),
    ("table.tex", "latex", False),
    ("tidy.csv", "csv", True),
)


def report_(
    runs: Annotated[list[Path] | None, typer.Argument(help="Run folders; default the newest below results/.")] = None,
    format: Annotated[
        str | None,
        typer.Option("--format", help="markdown, csv, latex, text or html; default text in a terminal, else markdown."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write; for html a folder, by default report/ in the run.")
    ] = None,
    tidy: Annotated[bool, typer.Option("--tidy", help="Long form, a line per method and column (csv).")] = False,
    with_paper: Annotated[bool, typer.Option("--with-paper", help="The paper's published rows beside ours.")] = False,
    paper: Annotated[
        str | None, typer.Option(help="Only one published table: table1, table2 or table3; default those that fit.")
    ] = None,
    mark: Annotated[
        str | None,
        typer.Option(help="Multi-round: significance (default) or naive, the paper's: by value alone."),
    ] = None,
    percentile: Annotated[
        str | None, typer.Option(help="Multi-round: normal-cdf (default) or empirical-midrank.")
    ] = None,
    reference_pool: Annotated[
        Path | None, typer.Option(help="Multi-round: percentiles within this frozen pool instead of the run's own.")
    ] = None,
    write_pool: Annotated[Path | None, typer.Option(help="Multi-round: freeze the run's pool into this file.")] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Multi-round: leave out what the judge failed on, with coverage.")
    ] = False,
) -> None:
    """Write the table of finished runs. Needs neither torch nor the clips."""
    from lt_eval import report
    from lt_eval.cli.longform import report_long
    from lt_eval.cli.report_rounds import Choices, report_rounds
    from lt_eval.report.longform import is_long
    from lt_eval.report.rounds import is_rounds
    from lt_eval.store import read_summary

    chosen = format or ("text" if out is None and sys.stdout.isatty() else "markdown")
    report.check(chosen, tidy=tidy)
    folders = runs or [_newest_run()]
    beside = paper or ("all" if with_paper else None)
    choices = Choices(mark, percentile, reference_pool, write_pool, allow_missing)
    if any(map(is_rounds, folders)):
        report_rounds(folders, chosen, out, tidy=tidy, beside=beside, choices=choices)
        return
    choices.refuse_any()
    if any(map(is_long, folders)):
        report_long(folders, chosen, out)
        return
    if chosen == "html":
        _write_html(folders, out, beside)
        return
    names = [run.absolute().name for run in folders]
    summaries = [read_summary(run) for run in folders]
    width = shutil.get_terminal_size().columns if chosen == "text" and out is None and sys.stdout.isatty() else None
    text = report.render(chosen, summaries, tidy=tidy, names=names, with_paper=beside, width=width)
    if out is None:
        sys.stdout.write(text)
    else:
        report.write_text(out, text)
        say(f"Wrote {out}")


def _write_html(folders: Sequence[Path], out: Path | None, with_paper: str | None) -> None:
    from lt_eval.report import html
    from lt_eval.report.runs import read_run

    if out is None and len(folders) > 1:
        raise SpecError("--out is missing: several runs make one report, and it belongs to none of their folders.")
    print(html.write([read_run(run) for run in folders], out or folders[0] / "report", with_paper=with_paper))


def _newest_run() -> Path:
    found = [
        path for name in ("summary.json", "multiround.json", "longform.json") for path in RESULTS.glob(f"*/{name}")
    ]
    found.sort(key=lambda path: path.stat().st_mtime)
    if not found:
        raise StoreError(
            "No finished run lies below results/. Name a run folder, or make one: lt-eval single --dataset demo"
        )
    say(f"Newest run: {found[-1].parent}")
    return found[-1].parent
