"""CSV: wide, one line a method, or tidy, one line a number. Values at full precision, without arrows or marks.

A text that a spreadsheet would run as a formula ("=1+2") has an apostrophe before it.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from lt_eval.report import published
from lt_eval.report.table import Table, TableCell, TableRow, tell_apart

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lt_eval.records import Cell, Summary

TIDY_COLUMNS = ("dataset", "method", "column", "value", "low", "high", "n", "total", "unit", "better")
"""The long form's columns, in order."""

PUBLISHED = " (published)"
"""What follows the name of a method whose figures are transcribed from a paper."""

_FORMULA = ("=", "+", "-", "@")


def render(table: Table, *, intervals: bool = True) -> str:
    """Return the wide form: dataset, method, Model Size, then each column.

    With `intervals`, each column is followed by "<column> low", "<column> high", "<column> n" and "<column> N" where
    the table has them. Empty where there is no value.
    """
    sized = ["Model Size"] if table.has_model_size else []
    extra = [_extra(table, i) if intervals else () for i in range(len(table.headers))]
    header = ["dataset", "method", *sized]
    for head, fields in zip(table.headers, extra, strict=True):
        header += [head.label, *(f"{head.label} {field}" for field in fields)]
    lines: list[list[object]] = []
    for block in table.blocks:
        for row in block.rows:
            line: list[object] = [block.dataset, _name(row), *([row.model_size] if sized else [])]
            for cell, fields in zip(row.cells, extra, strict=True):
                line += [cell.value, *(_field(cell, field) for field in fields)]
            lines.append(line)
    return _write(header, lines)


def render_tidy(summaries: Sequence[Summary], *, names: Sequence[str] = (), with_paper: str | None = None) -> str:
    """Return the long form, one line a method and column, with the columns TIDY_COLUMNS and nothing else.

    Method names are those of the run ("ground-truth"); published rows follow, their method marked "(published)".
    Runs of one data set are told apart by `names` in the column "dataset".
    """
    beside = published.choose(with_paper, tuple(summaries)) if with_paper else ()
    lines = [_tidy(s.dataset, cell, "") for s in tell_apart(summaries, names) for cell in s.cells]
    lines += [_tidy(s.dataset, cell, PUBLISHED) for s in beside for cell in s.cells]
    return _write(list(TIDY_COLUMNS), lines)


def _tidy(dataset: str, cell: Cell, mark: str) -> list[object]:
    counts: list[object] = [cell.n, cell.total] if cell.total else [None, None]
    return [
        *(dataset, cell.method + mark, cell.column, cell.value, cell.low, cell.high),
        *counts,
        *(cell.unit, cell.better),
    ]


def _name(row: TableRow) -> str:
    return row.label + (PUBLISHED if row.published else "")


def _extra(table: Table, index: int) -> tuple[str, ...]:
    cells = [row.cells[index] for block in table.blocks for row in block.rows]
    bounds = ("low", "high") if any(cell.low is not None for cell in cells) else ()
    counts = ("n", "N") if any(cell.total for cell in cells) else ()
    return (*bounds, *counts)


def _field(cell: TableCell, field: str) -> object:
    if field in ("n", "N"):
        return (cell.n if field == "n" else cell.total) if cell.total else None
    return cell.low if field == "low" else cell.high


def _write(header: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_inert(cell) for cell in line] for line in (header, *lines))
    return text.getvalue()


def _inert(cell: object) -> object:
    """Put an apostrophe before a text that a spreadsheet would run as a formula; numbers stay."""
    if not isinstance(cell, str):
        return cell
    # a lone carriage return is left unquoted by older csv modules, and what follows would begin a line of its own
    text = cell.replace("\r", " ")
    return f"'{text}" if text.lstrip().startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
