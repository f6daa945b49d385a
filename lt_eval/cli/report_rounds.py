"""`lt-eval report` of multi-round runs, and what `lt-eval multiround` prints and writes when it is finished."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lt_eval.cli.base import say
from lt_eval.errors import SpecError, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lt_eval.report.rounds import RoundsRun
    from lt_eval.rounds_summary import RoundsSummary, SummaryOptions
    from lt_eval.stats import Kind

MARKS = ("significance", "naive")
PERCENTILES = ("normal-cdf", "empirical-midrank")


@dataclass(frozen=True)
class Choices:
    """The flags of `lt-eval report` that only a multi-round run knows; None is not given."""

    mark: str | None = None
    percentile: str | None = None
    reference_pool: Path | None = None
    write_pool: Path | None = None
    allow_missing: bool = False

    def refuse_any(self) -> None:
        """Refuse them beside single-round runs."""
        for field in fields(self):
            if getattr(self, field.name):
                flag = f"--{field.name.replace('_', '-')}"
                raise SpecError(f"{flag} is about a multi-round run, and none was named: leave it out.")

    def options(self) -> SummaryOptions:
        """Return them as the summary takes them.

        Raises:
            SpecError: a value that is not known.
            StoreError: the pool cannot be read.
        """
        from lt_eval.registry import suggestion
        from lt_eval.rounds_summary import SummaryOptions
        from lt_eval.stats import read_reference_pool

        for flag, value, known in (("mark", self.mark, MARKS), ("percentile", self.percentile, PERCENTILES)):
            if value is not None and value not in known:
                hint = suggestion(value, list(known))
                raise SpecError(f"--{flag} {value!r} is none of {', '.join(known)}.{hint}")
        return SummaryOptions(
            percentile=cast("Kind", self.percentile or PERCENTILES[0]),
            reference=read_reference_pool(self.reference_pool) if self.reference_pool else None,
            mark="naive" if self.mark == "naive" else "significance",
        )


def publish_rounds(folder: Path, choices: Choices | None = None) -> None:
    """Write statistics, tables in every form and the HTML report into a run folder, and print the tables.

    Raises:
        UnjudgedError: the judge failed somewhere, and that was not allowed; nothing is written then.
    """
    from lt_eval import report
    from lt_eval.report.rounds_page import RoundsReport, write_rounds
    from lt_eval.report.rounds_tables import render_rounds
    from lt_eval.store import write_json

    run, summary = _summarised(folder, choices or Choices())
    one, raw = [summary.percentiles], [summary.raw]
    tables = folder / "tables"
    write_json(folder / "summary.json", summary.percentiles.to_json())
    write_json(folder / "statistics.json", summary.statistics)
    for name, format, tidy in (
        ("table.md", "markdown", False),
        ("table.csv", "csv", False),
        ("table.tex", "latex", False),
        ("tidy.csv", "csv", True),
    ):
        report.write_text(tables / name, render_rounds(format, one, raw, tidy=tidy))
    index = write_rounds(RoundsReport(run, summary.percentiles, summary.raw, summary.statistics), folder / "report")
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        sys.stdout.write(render_rounds("text", one, raw, width=width, color=True))
    else:
        sys.stdout.write(render_rounds("markdown", one, raw))
    say(f"Report: {index}\nTables: {tables}{os.sep}")


def report_rounds(
    folders: Sequence[Path], format: str, out: Path | None, *, tidy: bool, beside: str | None, choices: Choices
) -> None:
    """Write the tables or the page of finished multi-round runs.

    Raises:
        SpecError: a single-round run is among them, or several were named for what is of one.
        UnjudgedError: the judge failed somewhere, and that was not allowed.
    """
    from lt_eval import report
    from lt_eval.report.rounds import is_rounds
    from lt_eval.report.rounds_page import RoundsReport, write_rounds
    from lt_eval.report.rounds_tables import render_rounds

    if single := [folder for folder in folders if not is_rounds(folder)]:
        raise SpecError(f"{single[0]} is no multi-round run, and the others are: report them apart.")
    if len(folders) > 1 and (format == "html" or choices.write_pool):
        raise SpecError("--format html and --write-pool are of one multi-round run: name one folder.")
    found = [_summarised(folder, choices) for folder in folders]
    if format == "html":
        run, summary = found[0]
        page = RoundsReport(run, summary.percentiles, summary.raw, summary.statistics)
        print(write_rounds(page, out or folders[0] / "report", with_paper=beside))
        return
    width = shutil.get_terminal_size().columns if format == "text" and out is None and sys.stdout.isatty() else None
    percentiles, raw = [s.percentiles for _, s in found], [s.raw for _, s in found]
    if agreement := _agreement([run for run, _ in found]):
        percentiles = [replace(each, footnotes=(*each.footnotes, agreement)) for each in percentiles]
    names = [folder.absolute().name for folder in folders]
    text = render_rounds(format, percentiles, raw, tidy=tidy, names=names, with_paper=beside, width=width)
    if out is None:
        sys.stdout.write(text)
    else:
        report.write_text(out, text)
        say(f"Wrote {out}")


def _agreement(runs: Sequence[RoundsRun]) -> str:
    """Say how far judges agree, where the runs were judged by different ones."""
    from lt_eval.rounds_statistics import agreement_of_judges

    judges = [run.manifest.judge.model for run in runs if run.manifest.judge]
    if len(judges) < len(runs) or len(set(judges)) < 2:
        return ""
    alphas = {name: alpha for name, alpha in agreement_of_judges(runs).items() if alpha is not None}
    listed = ", ".join(f"{name} {alpha:.2f}" for name, alpha in alphas.items())
    return (
        f"Agreement of the judges {', '.join(judges)} on the same conversations, Krippendorff's α: {listed or 'none'}."
    )


def _summarised(folder: Path, choices: Choices) -> tuple[RoundsRun, RoundsSummary]:
    from lt_eval.report.rounds import read_rounds
    from lt_eval.rounds_summary import reference_pool, refuse_unjudged, summarise_rounds
    from lt_eval.stats import write_reference_pool

    run = read_rounds(folder)
    if not run.manifest.finished:
        raise StoreError(f"{folder}: the run was stopped before its end. Run its `lt-eval multiround` command again.")
    summary = summarise_rounds(run, choices.options())
    if not choices.allow_missing:
        refuse_unjudged(summary)
    if choices.write_pool:
        write_reference_pool(choices.write_pool, reference_pool(run, summary, folder.absolute().name))
        say(f"Wrote {choices.write_pool}")
    return run, summary
