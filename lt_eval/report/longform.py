"""The result of a run over minutes: longform.json and .csv, the drawing longform.svg, and the page.

results/RUN/longform.json   the table of each window, failures, facts; what this module reads again
results/RUN/longform.csv    one line a window, method and column
results/RUN/longform.svg    all lines
results/RUN/report/         index.html with the lines, first and last window beside each other, and failures
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_eval.errors import StoreError
from lt_eval.records import Row, Summary
from lt_eval.report import formats
from lt_eval.report.clips import ClipKey, place
from lt_eval.report.facts import how_it_ran
from lt_eval.report.html import GENERATOR, refuse_foreign
from lt_eval.report.lines import STYLE, Point, plot, standalone
from lt_eval.report.table import label, method_label, number, wide
from lt_eval.store import atomic_write, read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lt_eval.report.plots import Plot

FILE = "longform.json"

CSV_COLUMNS = ("start_s", "end_s", "method", "column", "value", "low", "high", "n", "total", "unit", "better")

_PAGE = Path(__file__).parent / "page"


@dataclass(frozen=True)
class Window:
    """A stretch of the streams and its table, one row a configuration."""

    start_s: float
    end_s: float
    summary: Summary


@dataclass(frozen=True)
class LongRun:
    """A finished run, as far as a report needs it.

    Attributes:
        folder: of the run.
        manifest: what was asked.
        windows: in the order of time, at least one.
        failures: (method, sample, metric, reason, message) of every row without a value.
    """

    folder: Path
    manifest: Mapping[str, Any]
    windows: tuple[Window, ...]
    failures: tuple[Mapping[str, str], ...]


def is_long(folder: Path) -> bool:
    """Return whether a folder holds a finished run over minutes."""
    return (folder / FILE).is_file()


def write_result(folder: Path, manifest: Mapping[str, Any], windows: Sequence[Window], failed: Iterable[Row]) -> None:
    """Write the numbers into a run folder; longform.json, which says that the run is finished, comes last."""
    failures = [
        {
            "method": row.method,
            "sample": row.sample,
            "metric": row.metric,
            "reason": row.failure.reason,
            "message": row.failure.message,
        }
        for row in failed
        if row.failure
    ]
    run = LongRun(folder, manifest, tuple(windows), tuple(failures))
    formats.write_text(folder / "longform.csv", to_csv(windows))
    formats.write_text(folder / "longform.svg", standalone(plots(run)))
    found = [{"start_s": w.start_s, "end_s": w.end_s, "summary": w.summary.to_json()} for w in windows]
    write_json(folder / FILE, {"format": 1, "manifest": manifest, "windows": found, "failures": failures})


def read_long(folder: Path) -> LongRun:
    """Read a finished run.

    Raises:
        StoreError: there is none, or it is damaged.
    """
    data = read_json(folder / FILE)
    try:
        windows = tuple(
            Window(float(one["start_s"]), float(one["end_s"]), Summary.from_json(one["summary"]))
            for one in data["windows"]
        )
        if not windows:
            raise ValueError("no window")
        return LongRun(folder, data["manifest"], windows, tuple(data["failures"]))
    except (TypeError, KeyError, AttributeError, ValueError) as cause:
        raise StoreError(
            f"{folder / FILE}: not a result of this version of lt-eval ({cause}). Run its command again."
        ) from cause


def to_csv(windows: Sequence[Window]) -> str:
    """Return the long form with the columns CSV_COLUMNS, values at full precision, empty where there are none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for window in windows:
        for cell in window.summary.cells:
            writer.writerow(
                [window.start_s, window.end_s, cell.method, cell.column, cell.value, cell.low, cell.high]
                + ([cell.n, cell.total] if cell.total else [None, None])
                + [cell.unit, cell.better]
            )
    return text.getvalue()


def ends(run: LongRun) -> tuple[Summary, ...]:
    """Return the tables of the first and the last window, which say most; one where there is but one."""
    first, last = run.windows[0].summary, run.windows[-1].summary
    return (first,) if len(run.windows) == 1 else (first, last)


def plots(run: LongRun) -> list[Plot]:
    """Return a drawing for each column that has values, in the order of the columns."""
    summary = run.windows[0].summary
    found = []
    for name, column in summary.columns.items():
        lines = {
            method.name: [Point((w.start_s + w.end_s) / 120, _value(w.summary, method.name, name)) for w in run.windows]
            for method in summary.methods
        }
        if (drawn := plot(name, column, lines)) is not None:
            found.append(drawn)
    return found


def _value(summary: Summary, method: str, column: str) -> float | None:
    return next((cell.value for cell in summary.cells if (cell.method, cell.column) == (method, column)), None)


# The page -------------------------------------------------------------------------------------------------------------


def write_page(run: LongRun, out: Path) -> Path:
    """Write the report into the folder `out` and return its index.html, which is written last.

    Each method's first and last window of the first person lie under clips/. Nothing in `out` is deleted.

    Raises:
        UsageError: `out` is something else.
        StoreError: `out` cannot be written.
        StorageFullError: the disk is full.
    """
    refuse_foreign(out)
    content = _render(run, place(_clips(run), out, "clips"))
    index_html = out / "index.html"
    with atomic_write(index_html) as file:
        file.write(content)
    return index_html


def _clips(run: LongRun) -> dict[ClipKey, Path]:
    person = run.manifest["people"][0]
    places = dict.fromkeys((0, len(run.windows) - 1))
    return {
        (method.name, f"{person}-window-{number:02d}", 0): run.folder.absolute()
        / "clips"
        / method.name
        / person
        / f"window-{number:02d}.mp4"
        for method in run.windows[0].summary.methods
        for number in places
    }


def _render(run: LongRun, placed: Mapping[ClipKey, str]) -> str:
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    environment = Environment(loader=FileSystemLoader(_PAGE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    table = replace(wide(ends(run)), caption="First and last window")
    summary = run.windows[-1].summary
    return environment.get_template("longform.html.j2").render(
        generator=GENERATOR,
        css=Markup((_PAGE / "report.css").read_text(encoding="utf-8") + STYLE),
        js=Markup((_PAGE / "common.js").read_text(encoding="utf-8")),
        title=f"Identity over {_minutes(run.windows[-1].end_s)}",
        table=table,
        plots=plots(run),
        facts=_facts(run),
        failures=run.failures,
        videos=[
            (
                method_label(method.name),
                [(key[1].rpartition("-")[2], path) for key, path in placed.items() if key[0] == method.name],
            )
            for index, method in enumerate(summary.methods)
        ],
        last=[
            [label(name, column), *(number(v, column.digits) if v is not None else "–" for v in values)]
            for name, column, values in _over_time(run)
        ],
        windows=[window.summary.dataset for window in run.windows],
    )


def _over_time(run: LongRun) -> Iterable[tuple[str, Any, list[float | None]]]:
    """Yield each method and column's values, window by window; the name is "METHOD: COLUMN"."""
    summary = run.windows[0].summary
    for name, column in summary.columns.items():
        for method in summary.methods:
            values = [_value(window.summary, method.name, name) for window in run.windows]
            if any(value is not None for value in values):
                yield f"{method.name}: {name}", column, values


def _facts(run: LongRun) -> list[tuple[str, str]]:
    manifest = run.manifest
    pairs = [
        ("Run", run.folder.absolute().name),
        ("Generator", str(manifest["spec"]["generator"])),
        ("People", ", ".join(manifest["people"])),
        *((f"Configuration {one['name']}", _settings(one["settings"])) for one in manifest["methods"]),
        *how_it_ran(manifest),
    ]
    return [(name, value) for name, value in pairs if value]


def _minutes(seconds: float) -> str:
    return "1 minute" if seconds == 60 else f"{seconds / 60:.3g} minutes"


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())
