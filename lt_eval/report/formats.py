"""One way in: a format's name to its writer, as text or onto the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lt_eval.errors import UsageError
from lt_eval.registry import suggestion
from lt_eval.report import csv, latex, markdown, text
from lt_eval.report.table import Table, differences, wide
from lt_eval.store import atomic_write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lt_eval.records import Summary

FORMATS = ("text", "markdown", "csv", "latex", "html")
"""What `lt-eval report --format` knows."""

_WRITERS: dict[str, Callable[..., str]] = {
    "text": text.render,
    "markdown": markdown.render,
    "csv": csv.render,
    "latex": latex.render,
}


def render(
    format: str,
    summaries: Sequence[Summary],
    *,
    tidy: bool = False,
    names: Sequence[str] = (),
    with_paper: str | None = None,
    intervals: bool = True,
    width: int | None = None,
    color: bool = False,
) -> str:
    """Return the table of `summaries` in a format; all but csv add the paired differences as a second table.

    Args:
        format: one of FORMATS but html, which is a folder (`html.write`).
        summaries: one a run.
        tidy: the long form, csv only.
        names: of the runs, which tell those of one data set apart.
        with_paper: set published rows beside them: "table1", "table2", "table3" or "all".
        intervals: show the 95 % intervals; the long form always has them.
        width: of the terminal, to which text is folded.
        color: let text use the terminal's bold, underline and colours.

    Raises:
        UsageError: there is no such format, or it has no such form.
        UnknownNameError: there is no such published table.
    """
    check(format, tidy=tidy)
    if format == "html":
        raise UsageError("html is a folder of files: say where it shall go with --out FOLDER.")
    if tidy:
        return csv.render_tidy(summaries, names=names, with_paper=with_paper)
    tables: list[Table] = [wide(summaries, names=names, with_paper=with_paper)]
    if format != "csv":
        second = differences(summaries, names=names)
        tables += [second] if second.blocks else []
    more = {"width": width, "color": color} if format == "text" else {}
    return "\n".join(_WRITERS[format](table, intervals=intervals, **more) for table in tables)


def check(format: str, *, tidy: bool = False) -> None:
    """Refuse a format that does not exist, and a long form that is not csv.

    Raises:
        UsageError: with what to write instead.
    """
    if format not in FORMATS:
        raise UsageError(f"--format {format!r} is none of {', '.join(FORMATS)}.{suggestion(format, list(FORMATS))}")
    if tidy and format != "csv":
        raise UsageError(f"--tidy is a form of csv, and --format {format} was asked for. Use --format csv --tidy.")


def write_text(path: Path, content: str) -> None:
    """Write a rendered table, whole or not at all.

    Raises:
        StoreError: the path cannot be written.
        StorageFullError: the disk is full.
    """
    with atomic_write(path) as file:
        file.write(content)
