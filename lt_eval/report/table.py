"""The table as plain records: what every writer prints, decided once.

Wide form is Table 1 of the LiveTalk paper (arXiv:2512.23576): one block a data set, ground truth first, an arrow for
the better direction, the best method bold and the second underlined. A mark compares values of one column, one data
set and one run, as printed: ground truth and published rows are never compared, nor is "FID" with "FID (builtin)", nor
a value of n < N clips with one of all.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from lt_eval.records import GROUND_TRUTH, Cell, Column, Difference, MethodInfo, Summary
from lt_eval.report import published

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Mark = Literal["", "best", "second", "gain", "loss"]

DASH = "–"
ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}
PAPER_ORDER = (
    *("Throughput", "Latency"),
    *("EA", "NI", "MVC", "CN", "SR", "IC", "LC", "CU", "OIE"),
    *("FID", "FVD", "Sync-C", "Sync-D", "IQA", "ASE"),
)
"""The columns of Tables 1 and 2, in their order; others follow."""

GROUPS = {
    **dict.fromkeys(("EA", "NI", "MVC", "CN"), "Visual Interaction Performance"),
    **dict.fromkeys(("SR", "IC", "LC", "CU", "OIE"), "Interaction Content Quality"),
}
"""What Table 2 writes over its judged columns."""

DATASET_TITLES = ("HDTF", "AVSpeech", "CelebV-HQ")

UNRANKED = "A value of fewer than all clips is not ranked: those it lacks may be the hard ones."
"""The note under a table that leaves values out of its ranking."""

_NOT_MEASURED = "not measured in this run"
_NOT_PUBLISHED = "not in the published table"


@dataclass(frozen=True)
class Header:
    """One column: its label carries the unit ("Latency (s)"), its arrow the better direction ("↓", or "")."""

    label: str
    column: Column

    @property
    def arrow(self) -> str:
        """The better direction as a sign."""
        return ARROWS[self.column.better]

    @property
    def title(self) -> str:
        """Label and arrow."""
        return f"{self.label} {self.arrow}".rstrip()


@dataclass(frozen=True)
class TableCell:
    """One cell, ready to print.

    Attributes:
        value: the number, or None where there is none.
        low: lower end of the 95 % interval, where there is one.
        high: its upper end.
        n: clips that went into the value.
        total: clips there were; 0 where the value is not an average over clips.
        text: the value at the column's digits, or a dash.
        interval: "[low, high]" at the same digits, or "".
        note: why there is no value.
        mark: "best" and "second" in a table of values; "gain" and "loss" where a difference's interval excludes 0.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    total: int = 0
    text: str = DASH
    interval: str = ""
    note: str = ""
    mark: Mark = ""

    @property
    def coverage(self) -> str:
        """Return "n/N" where fewer than all clips went into the value, else ""."""
        return f"{self.n}/{self.total}" if self.n < self.total else ""


@dataclass(frozen=True)
class TableRow:
    """One method: `name` is the record's, `label` the reader's."""

    name: str
    label: str
    cells: tuple[TableCell, ...]
    model_size: str = ""
    published: bool = False

    @property
    def ground_truth(self) -> bool:
        """Whether these are the reference clips themselves."""
        return self.name == GROUND_TRUTH


@dataclass(frozen=True)
class Block:
    """The rows of one data set and run; `dataset` is the block's title."""

    dataset: str
    rows: tuple[TableRow, ...]


@dataclass(frozen=True)
class Table:
    """A whole table. Cells stand in the order of `headers`; `notes` go underneath."""

    headers: tuple[Header, ...]
    blocks: tuple[Block, ...]
    notes: tuple[str, ...] = ()
    caption: str = ""

    @property
    def groups(self) -> tuple[tuple[str, int], ...]:
        """Titles over neighbouring columns with how many they span, "" over those without; () where none has one."""
        titles = [GROUPS.get(header.label, "") for header in self.headers]
        return tuple((title, len(list(run))) for title, run in groupby(titles)) if any(titles) else ()

    @property
    def has_model_size(self) -> bool:
        """Whether any method states its size."""
        return any(row.model_size for block in self.blocks for row in block.rows)

    @property
    def has_interval(self) -> bool:
        """Whether any cell has one."""
        return any(cell.interval for block in self.blocks for row in block.rows for cell in row.cells)


def wide(summaries: Sequence[Summary], *, names: Sequence[str] = (), with_paper: str | None = None) -> Table:
    """Return Table 1's form of the summaries, one block each.

    Args:
        summaries: one a run.
        names: of the runs, which tell those of one data set apart.
        with_paper: a published table to set beside them ("table1", "table2", "table3" or "all"); its rows join the
            block of the same data set, or stand in a block of their own.

    Raises:
        UnknownNameError: there is no such published table.
    """
    summaries = [titled(summary) for summary in summaries]
    beside = published.choose(with_paper, tuple(summaries)) if with_paper else ()
    headers = _headers([*summaries, *beside])
    alone = list(beside)
    blocks = []
    apart = tell_apart(summaries, names)
    for summary, named in zip(summaries, apart, strict=True):
        match = next((p for p in alone if _same_dataset(p, summary)), None)
        if match:
            alone.remove(match)
        rows = (*_rows(summary, headers), *(_rows(match, headers) if match else ()))
        blocks.append(Block(named.dataset, rows))
    blocks += [Block(p.dataset, _rows(p, headers)) for p in alone]
    datasets = list(dict.fromkeys(summary.dataset for summary in summaries))
    table = Table(headers, tuple(blocks), caption=f"Results on {_enumeration(datasets)}" if datasets else "")
    return replace(table, notes=_notes(table, [*apart, *beside]))


def differences(summaries: Sequence[Summary], *, names: Sequence[str] = ()) -> Table:
    """Return the paired differences in the same form: method minus the block's baseline, on the clips both have.

    The mark is "gain" or "loss" where the interval excludes 0, by the column's better direction. `names`
    are those of the runs, as in `wide`.
    """
    summaries = tell_apart([titled(summary) for summary in summaries], names)
    headers = tuple(h for h in _headers(summaries) if any(_has_difference(s, h) for s in summaries))
    blocks = []
    for summary in summaries:
        for baseline in dict.fromkeys(d.baseline for d in summary.differences):
            mine = [d for d in summary.differences if d.baseline == baseline]
            by_method = {m: {_label_in(summary, d.column): d for d in mine if d.method == m} for m in _methods(mine)}
            rows = tuple(
                TableRow(m, method_label(m), tuple(_difference_cell(found.get(h.label), h) for h in headers))
                for m, found in by_method.items()
            )
            blocks.append(Block(f"{summary.dataset}: minus {method_label(baseline)}", rows))
    caption = "Paired differences on the clips both methods were scored on, with 95 % intervals"
    return Table(headers, tuple(blocks), caption=caption)


def tell_apart(summaries: Sequence[Summary], names: Sequence[str] = ()) -> list[Summary]:
    """Return the summaries with the run's name in the data set's where that repeats: "HDTF (first)", "HDTF (second)".

    Args:
        summaries: one a run.
        names: of the runs, one each, or none at all; runs of one data set without a name of their own are numbered.
    """
    numbers = [f"run {i + 1}" for i in range(len(summaries))]
    given = list(zip((s.dataset for s in summaries), names or numbers, strict=True))
    datasets, pairs = Counter(dataset for dataset, _ in given), Counter(given)
    apart = []
    for summary, pair, numbered in zip(summaries, given, numbers, strict=True):
        name = f"{pair[1]}, {numbered}" if pairs[pair] > 1 else pair[1]
        title = f"{summary.dataset} ({name})" if datasets[summary.dataset] > 1 else summary.dataset
        apart.append(replace(summary, dataset=title))
    return apart


def label(name: str, column: Column) -> str:
    """Return a column's name with its unit in brackets, once."""
    unit = f"({column.unit})"
    return name if not column.unit or unit in name else f"{name} {unit}"


def number(value: float, digits: int, *, signed: bool = False) -> str:
    """Return the value at a fixed number of digits, without a negative zero."""
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text if any(c in "123456789" for c in text) else text.lstrip("+-")


def _headers(summaries: Sequence[Summary]) -> tuple[Header, ...]:
    found: dict[str, Header] = {}
    for summary in summaries:
        for name, column in summary.columns.items():
            key = label(name, column)
            found.setdefault(key, Header(key, column))
    return tuple(sorted(found.values(), key=_place))


def _place(header: Header) -> int:
    base = re.sub(r" \([^()]*\)", "", header.label)
    return PAPER_ORDER.index(base) if base in PAPER_ORDER else len(PAPER_ORDER)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _same_dataset(one: Summary, other: Summary) -> bool:
    return _plain(one.dataset) == _plain(other.dataset)


def titled(summary: Summary) -> Summary:
    """Write a data set's name as its authors do: "celebvhq" is what one types."""
    titles = {_plain(title): title for title in DATASET_TITLES}
    return replace(summary, dataset=titles.get(_plain(summary.dataset), summary.dataset))


def _rows(summary: Summary, headers: Sequence[Header]) -> tuple[TableRow, ...]:
    names = {label(name, column): name for name, column in summary.columns.items()}
    cells = {(cell.method, cell.column): cell for cell in summary.cells}
    methods = sorted(summary.methods, key=lambda m: m.name != GROUND_TRUTH)
    grid = [[_cell(summary, m, names.get(h.label), cells) for h in headers] for m in methods]
    for index, header in enumerate(headers):
        column = summary.columns.get(names.get(header.label, ""))
        if column:
            ranked = [i for i, m in enumerate(methods) if m.name != GROUND_TRUTH and not m.published]
            tested = summary.marks.get(names[header.label])
            marks = (
                _marks([grid[i][index] for i in ranked], column)
                if tested is None
                else [_tested(tested.get(methods[i].name)) for i in ranked]
            )
            for i, mark in zip(ranked, marks, strict=True):
                grid[i][index] = replace(grid[i][index], mark=mark)
    return tuple(
        TableRow(m.name, method_label(m.name), tuple(line), m.model_size, m.published)
        for m, line in zip(methods, grid, strict=True)
    )


def _cell(summary: Summary, method: MethodInfo, column: str | None, cells: Mapping[tuple[str, str], Cell]) -> TableCell:
    cell = cells.get((method.name, column)) if column else None
    if cell is None or column is None:
        return TableCell(note=_NOT_PUBLISHED if method.published else _NOT_MEASURED)
    if method.name == GROUND_TRUTH and summary.columns[column].fixed_by_reference:
        return TableCell(note="ground truth has no distance to itself")
    if cell.value is None or not math.isfinite(cell.value):
        return TableCell(n=cell.n, total=cell.total, note=cell.note or "no value")
    digits = summary.columns[column].digits
    interval = ""
    if cell.low is not None and cell.high is not None:
        interval = f"[{number(cell.low, digits)}, {number(cell.high, digits)}]"
    text = number(cell.value, digits)
    return TableCell(cell.value, cell.low, cell.high, cell.n, cell.total, text, interval, cell.note)


def _marks(cells: Sequence[TableCell], column: Column) -> list[Mark]:
    """Rank what is printed, so that equal numbers carry equal marks; a lone value is neither best nor second.

    A value of some of the clips does not compete: the clips it lacks may be the hard ones.
    """
    competes = [cell.value is not None and not cell.coverage for cell in cells]
    values = {float(cell.text) for cell, ranked in zip(cells, competes, strict=True) if ranked}
    if column.better == "neither" or sum(competes) < 2:
        return [""] * len(cells)
    order = sorted(values, reverse=column.better == "higher")
    marks: dict[float, Mark] = dict(zip(order, ("best", "second"), strict=False))
    return [marks.get(float(c.text), "") if ranked else "" for c, ranked in zip(cells, competes, strict=True)]


def _tested(mark: str | None) -> Mark:
    return "best" if mark == "best" else "second" if mark == "second" else ""


def _leaves_out(table: Table, tested: set[str]) -> bool:
    """Whether a value that others would be compared with is of some of the clips only; `tested` columns are fair."""
    for block in table.blocks:
        rows = [row for row in block.rows if not row.ground_truth and not row.published]
        for index, header in enumerate(table.headers):
            if header.label in tested:
                continue
            cells = [row.cells[index] for row in rows if row.cells[index].value is not None]
            if header.column.better != "neither" and len(cells) > 1 and any(cell.coverage for cell in cells):
                return True
    return False


def _enumeration(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _has_difference(summary: Summary, header: Header) -> bool:
    return any(_label_in(summary, d.column) == header.label for d in summary.differences)


def _label_in(summary: Summary, column: str) -> str:
    return label(column, summary.columns[column])


def _methods(found: Iterable[Difference]) -> list[str]:
    return list(dict.fromkeys(d.method for d in found))


def _difference_cell(difference: Difference | None, header: Header) -> TableCell:
    if difference is None or not math.isfinite(difference.value):
        return TableCell(note="no clip that both methods were scored on")
    d, digits = difference, header.column.digits
    interval = f"[{number(d.low, digits, signed=True)}, {number(d.high, digits, signed=True)}]"
    text = number(d.value, digits, signed=True)
    return TableCell(d.value, d.low, d.high, d.n, d.n, text, interval, mark=_direction(d, header.column))


def _direction(difference: Difference, column: Column) -> Mark:
    if column.better == "neither" or difference.low <= 0 <= difference.high:
        return ""
    return "gain" if (difference.low > 0) == (column.better == "higher") else "loss"


def method_label(name: str) -> str:
    """Return a method's name for people."""
    return "Ground Truth" if name == GROUND_TRUTH else name


def _notes(table: Table, summaries: Sequence[Summary]) -> tuple[str, ...]:
    measured = [s for s in summaries if not all(m.published for m in s.methods)]
    notes: list[str] = []
    if table.has_interval:
        notes.append("[low, high] is the 95 % interval of the value before it.")
    notes += [_coverage_note(s, many=len(measured) > 1) for s in measured if any(c.n for c in s.cells)]
    tested = {_label_in(summary, column) for summary in measured for column in summary.marks}
    notes += [UNRANKED] if _leaves_out(table, tested) else []
    notes += [_floor_note(s, many=len(measured) > 1) for s in measured if s.floors]
    notes += _missing_notes(table)
    said: dict[str, list[str]] = {}
    for summary in summaries:
        for footnote in summary.footnotes:
            said.setdefault(footnote, []).append(summary.dataset)
    of_all = {s.dataset for s in measured}
    for footnote, datasets in said.items():
        everywhere = set(datasets) >= of_all or footnote.startswith(published.DAGGER)
        notes.append(footnote if everywhere else f"{', '.join(datasets)}: {footnote}")
    return tuple(dict.fromkeys(notes))


def _coverage_note(summary: Summary, *, many: bool) -> str:
    prefix = f"{summary.dataset}: " if many else ""
    counted = [c for c in summary.cells if (c.total and not summary.columns[c.column].fixed_by_reference) or c.n]
    totals = sorted({c.total for c in counted if c.total})
    # of a multi-round run, judged columns count scenarios and the others turns
    what = "scenarios or turns" if GROUPS.keys() & summary.columns.keys() else "clips"
    clips = f"{' or '.join(str(t) for t in totals)} {what}"
    if all(c.n == c.total for c in counted):
        if totals == [1] and what == "clips":
            return f"{prefix}Every value is of one clip, which has no interval."
        return f"{prefix}Every value is of all {clips} (n = N)."
    return f"{prefix}(n/N) stands where a value is of n of N = {clips}; every other one is of all."


def _floor_note(summary: Summary, *, many: bool) -> str:
    prefix = f"{summary.dataset}: " if many else ""
    floors = ", ".join(
        f"{name} {number(value, summary.columns[name].digits if name in summary.columns else 2)}"
        for name, value in summary.floors.items()
    )
    return (
        f"{prefix}Floor at this N, what two independent samples of one distribution would give: {floors}. "
        "A method made from its references can lie below it."
    )


def _missing_notes(table: Table) -> list[str]:
    """Say why measured cells are empty; that ground truth has no distance to itself needs no words."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for block in table.blocks:
        for row in block.rows:
            for header, cell in zip(table.headers, row.cells, strict=True):
                own = row.ground_truth and header.column.fixed_by_reference
                if cell.value is None and cell.note and not row.published and not own:
                    where = f"{block.dataset} {row.label}" if len(table.blocks) > 1 else row.label
                    reasons.setdefault(cell.note, {}).setdefault(where, []).append(header.label)
    reasons.pop(_NOT_MEASURED, None)
    return [f"{DASH} {note.rstrip('.')}: {'; '.join(_together(where))}." for note, where in reasons.items()]


def _together(where: Mapping[str, Sequence[str]]) -> list[str]:
    """Name the columns once that several methods lack alike."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for row, columns in where.items():
        groups.setdefault(tuple(columns), []).append(row)
    return [f"{', '.join(columns)} of {', '.join(rows)}" for columns, rows in groups.items()]
