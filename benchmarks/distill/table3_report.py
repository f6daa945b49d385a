"""The report of Table 3 at mini scale: lt-eval's own exports, and a page that sets ours beside the paper's.

    TO/
        README.md          ours beside the paper's, what each change did, and the reading, which is written by hand
        table.csv tidy.csv table.tex index.html        as `lt-eval report --with-paper` writes them, without the clips

The text under "Reading" is kept when the page is written again.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from lt_eval import report
from lt_eval.distill.recipe import Recipe
from lt_eval.records import GROUND_TRUTH, Cell, Summary
from lt_eval.report import html
from lt_eval.report.published import read as read_published
from lt_eval.report.runs import Run, read_run

TEACHER = "Teacher, many steps"
FROZEN = "Frozen portrait"

COLUMNS = ("FID", "FVD", "Sync-C", "Sync-D")
"""What the paper's Table 3 and a run with builtin weights both have; no network for IQA and ASE is built in."""

READING = "## Reading\n"
UNREAD = "Not written yet: which of the paper's effects repeat here, and which do not.\n"


@dataclass(frozen=True)
class Effect:
    """What one change of the recipe did to one column.

    Attributes:
        change: in words.
        column: of COLUMNS.
        paper: the paper's change, in its units.
        ours: ours, a value a seed.
    """

    change: str
    column: str
    paper: float
    ours: tuple[float, ...]

    @property
    def agreeing(self) -> int:
        """In how many seeds it went the paper's way."""
        return sum(value * self.paper > 0 for value in self.ours)


def pairs_of(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return (row, row that it is compared with): the one before it, so that the last one loses curation again."""
    return [(names[place], names[place - 1]) for place in range(1, len(names))]


def cell_of(summary: Summary, method: str, column: str) -> Cell | None:
    """Return a cell; a column is named without what it says of weights and mode."""
    found = (c for c in summary.cells if c.method == method and c.column.split(" (")[0] == column)
    return next(found, None)


def values_of(summaries: Sequence[Summary], method: str, column: str) -> list[float]:
    """Return a cell's value in each run that has one."""
    cells = [cell_of(summary, method, column) for summary in summaries]
    return [cell.value for cell in cells if cell is not None and cell.value is not None]


def effects(summaries: Sequence[Summary], paper: Summary, names: Sequence[str]) -> list[Effect]:
    """Return what every change did, seed by seed; a change is left out where a run lacks one of its two rows."""
    found = []
    for row, before in pairs_of(names):
        for column in COLUMNS:
            published = values_of([paper], row, column), values_of([paper], before, column)
            ours = [
                values[0][0] - values[1][0]
                for summary in summaries
                if all(values := [values_of([summary], name, column) for name in (row, before)])
            ]
            if all(published) and ours:
                found.append(Effect(row, column, published[0][0] - published[1][0], tuple(ours)))
    return found


def write(folders: Sequence[Path], recipes: Mapping[str, Recipe], to: Path) -> Path:
    """Write everything and return the page.

    Args:
        folders: a run a seed.
        recipes: by the paper's names of the rows, in order.
        to: the folder.

    Raises:
        StoreError: a run is not finished, or `to` cannot be written.
    """
    runs = [read_run(folder) for folder in folders]
    summaries = [run.summary for run in runs]
    names = [folder.absolute().parent.name for folder in folders]
    for name, format, tidy in (("table.csv", "csv", False), ("tidy.csv", "csv", True), ("table.tex", "latex", False)):
        text = report.render(format, summaries, tidy=tidy, names=names, with_paper="table3")
        report.write_text(to / name, text)
    html.write([_without_clips(run) for run in runs], to, with_paper="table3")
    page = to / "README.md"
    report.write_text(page, _page(runs, recipes, _reading(page)))
    return page


def _without_clips(run: Run) -> Run:
    rows = [
        replace(row, clip="", details={key: value for key, value in row.details.items() if key != "reference"})
        for row in run.rows
    ]
    return replace(run, rows=tuple(rows))


def _reading(page: Path) -> str:
    if not page.is_file():
        return UNREAD
    _, found, text = page.read_text(encoding="utf-8").partition(READING)
    return text.strip() + "\n" if found else UNREAD


def _page(runs: Sequence[Run], recipes: Mapping[str, Recipe], reading: str) -> str:
    summaries, (paper,) = [run.summary for run in runs], read_published("table3")
    known = {method.name for summary in summaries for method in summary.methods}
    names = [name for name in recipes if name in known]
    recipe = next(iter(recipes.values()))
    manifest = runs[0].manifest
    hardware = manifest["sessions"][-1]["hardware"]
    people = manifest["dataset"]["samples"]
    cells = f"mean over {len(runs)} seeds, and the extremes" if len(runs) > 1 else "95 % interval by clip"
    lines = [
        "# Table 3 at mini scale",
        "",
        f"Recipes of {recipe.preset} with {len(runs)} seed{'s' if len(runs) > 1 else ''}, measured on {len(people)} "
        f"drawn people whom no recipe has seen ({people[0]} to {people[-1]}), {recipe.config().stream.steps} steps, "
        f"streamed; {datetime.now(UTC):%Y-%m-%d}, on {', '.join(hardware['gpus']) or hardware['cpu']}. "
        "**The metrics are lt-eval's builtin ones**: compare rows with rows, and no number with the paper's. "
        f"Cells: {cells}; (n/N) where a value is of n of N clips.",
        "",
        f"| row | {' | '.join(COLUMNS)} | {' | '.join(f'paper: {column}' for column in COLUMNS)} |",
        "|---" + "|---:" * (2 * len(COLUMNS)) + "|",
    ]
    for name in (GROUND_TRUTH, TEACHER, FROZEN, *names):
        ours = [_cell(summaries, name, column) for column in COLUMNS]
        theirs = [_number(values_of([paper], name, column)) for column in COLUMNS]
        lines.append(f"| {name} | {' | '.join(ours)} | {' | '.join(theirs)} |")
    lines += ["", "## What each change did", "", *_effects(effects(summaries, paper, list(recipes)), len(runs))]
    lines += ["", "## What the rows are", "", *_recipes({name: recipes[name] for name in names}), "", READING]
    return "\n".join(lines) + "\n" + reading


def _effects(found: Sequence[Effect], seeds: int) -> list[str]:
    lines = ["| change | column | paper | ours | seeds that go the paper's way |", "|---|---|---:|---:|---:|"]
    for effect in found:
        mean = statistics.fmean(effect.ours)
        spread = f" ({min(effect.ours):+.3g} to {max(effect.ours):+.3g})" if len(effect.ours) > 1 else ""
        lines.append(
            f"| {effect.change} | {effect.column} | {effect.paper:+.2f} | {mean:+.3g}{spread} | "
            f"{effect.agreeing} of {len(effect.ours)} |"
        )
    note = (
        "A change is taken from the row before it; the last row's, curation taken away again, from the final "
        "configuration."
    )
    owed = [f"With {seeds} seed a change cannot be told from a seed's chance."] if seeds == 1 else []
    return [" ".join([note, *owed]), "", *lines]


def _recipes(recipes: Mapping[str, Recipe]) -> list[str]:
    lines = [
        "| row | conditions | ODE steps, at most | rate of the student | rate of the critic | guidance |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, recipe in recipes.items():
        lines.append(
            f"| {name} | {'curated' if recipe.conditions.curated else 'as found'} | {recipe.ode.loop.steps} | "
            f"{recipe.dmd.student.learning_rate:g} | {recipe.dmd.critic.learning_rate:g} | "
            f"{recipe.dmd.teacher_guidance:g} |"
        )
    return lines


def _cell(summaries: Sequence[Summary], method: str, column: str) -> str:
    cells = [cell for summary in summaries if (cell := cell_of(summary, method, column)) is not None]
    values = [cell.value for cell in cells if cell.value is not None]
    n, total = sum(cell.n for cell in cells), sum(cell.total for cell in cells)
    lacking = f" ({n}/{total})" if n < total else ""
    if not values:
        return f"–{lacking}"
    if len(values) > 1:
        return f"{statistics.fmean(values):.4g} ({min(values):.4g} to {max(values):.4g}){lacking}"
    (low, high), (value,) = (cells[0].low, cells[0].high), values
    interval = f" [{low:.4g}, {high:.4g}]" if low is not None and high is not None and len(cells) == 1 else ""
    return f"{value:.4g}{interval}{lacking}"


def _number(values: Sequence[float]) -> str:
    return f"{values[0]:.2f}" if values else ""
