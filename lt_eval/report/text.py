"""Plain text for a terminal: each method on one line, intervals on the line below, columns folded to the width."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from lt_eval.report.published import DAGGER
from lt_eval.report.table import Mark, Table, TableCell, TableRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_GAP = 2
_SIGNS: dict[Mark, str] = {"best": "*", "second": "'", "gain": "*", "loss": "*", "": ""}
_STYLES: dict[Mark, str] = {"best": "1", "second": "4", "gain": "32", "loss": "31", "": ""}
_LEGEND: dict[Mark, str] = {
    "best": "* best of the data set",
    "second": "' second",
    "gain": "* the interval excludes 0",
    "loss": "* the interval excludes 0",
}


def render(table: Table, *, intervals: bool = True, width: int | None = None, color: bool = False) -> str:
    """Return the table as text.

    Args:
        table: what to print.
        intervals: print "[low, high]" under each value.
        width: fold columns and notes so that no line is longer, if a single column fits; None does not fold.
        color: use the terminal's bold, underline, green and red instead of signs after the value.
    """
    names = ["Methods", *(b.dataset for b in table.blocks), *(_name(r) for b in table.blocks for r in b.rows)]
    first = max(map(len, names))
    widths = [_width(table, i, intervals, color) for i in range(len(table.headers))]
    out = [f"{table.caption}."] if table.caption else []
    out += ["\n".join(_piece(table, piece, first, widths, intervals, color)) for piece in _fold(widths, first, width)]
    marks = {cell.mark for block in table.blocks for row in block.rows for cell in row.cells}
    legend = [] if color else list(dict.fromkeys(text for mark, text in _LEGEND.items() if mark in marks))
    notes = [*([", ".join(legend) + "."] if legend else []), *table.notes]
    if width is not None:
        notes = [textwrap.fill(note, width, subsequent_indent="  ", break_on_hyphens=False) for note in notes]
    return "\n\n".join([*out, *(["\n".join(notes)] if notes else [])]) + "\n"


def _fold(widths: Sequence[int], first: int, width: int | None) -> Iterator[list[int]]:
    piece: list[int] = []
    used = first
    for index, need in enumerate(widths):
        if piece and width is not None and used + _GAP + need > width:
            yield piece
            piece, used = [], first
        piece.append(index)
        used += _GAP + need
    if piece:
        yield piece


def _piece(
    table: Table, piece: Sequence[int], first: int, widths: Sequence[int], intervals: bool, color: bool
) -> Iterator[str]:
    gap = " " * _GAP
    header = gap.join(table.headers[i].title.rjust(widths[i]) for i in piece)
    yield f"{'Methods':{first}}{gap}{header}".rstrip()
    for block in table.blocks:
        yield f"{block.dataset} ".ljust(first + sum(widths[i] + _GAP for i in piece), "─")
        for row in block.rows:
            values = gap.join(_padded(row.cells[i], widths[i], color) for i in piece)
            yield f"{_name(row):{first}}{gap}{values}".rstrip()
            below = gap.join(row.cells[i].interval.rjust(widths[i]) for i in piece)
            if intervals and below.strip():
                yield f"{'':{first}}{gap}{below}".rstrip()


def _width(table: Table, index: int, intervals: bool, color: bool) -> int:
    cells = [row.cells[index] for block in table.blocks for row in block.rows]
    below = [len(cell.interval) for cell in cells] if intervals else []
    return max(len(table.headers[index].title), *(len(_plain(cell, color)) for cell in cells), *below, 0)


def _plain(cell: TableCell, color: bool) -> str:
    return (f"({cell.coverage}) " if cell.coverage else "") + cell.text + ("" if color else _SIGNS[cell.mark])


def _padded(cell: TableCell, width: int, color: bool) -> str:
    text = _plain(cell, color)
    style = _STYLES[cell.mark] if color else ""
    shown = text.removesuffix(cell.text) + f"\x1b[{style}m{cell.text}\x1b[0m" if style else text
    return " " * (width - len(text)) + shown


def _name(row: TableRow) -> str:
    size = f" ({row.model_size})" if row.model_size else ""
    return f"{row.label}{size}" + (f" {DAGGER}" if row.published else "")
