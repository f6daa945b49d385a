"""Markdown, aligned so that it can be read without being rendered: bold best, underlined second."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lt_eval.report.published import DAGGER
from lt_eval.report.table import DASH, Table, TableCell, TableRow

if TYPE_CHECKING:
    from collections.abc import Sequence

_MARKS = {"best": "**{}**", "second": "<u>{}</u>", "gain": "**{}**", "loss": "**{}**", "": "{}"}


def render(table: Table, *, intervals: bool = True) -> str:
    """Return one Markdown table with a bold line a data set, its notes underneath. Published rows carry a dagger."""
    sized = ["Model Size"] if table.has_model_size else []
    header = ["Methods", *sized, *(escape(head.title) for head in table.headers)]
    lines = [header]
    for block in table.blocks:
        lines.append([f"**{escape(block.dataset)}**", *[""] * (len(header) - 1)])
        for row in block.rows:
            size = [escape(row.model_size) or DASH] if sized else []
            lines.append([_name(row), *size, *(_cell(cell, intervals) for cell in row.cells)])
    left = 1 + len(sized)
    parts = [f"{table.caption}.\n"] if table.caption else []
    parts += [_aligned(lines, left)]
    parts += ["\n" + "\n".join(f"- {escape(note)}" for note in table.notes)] if table.notes else []
    return "\n".join(parts) + "\n"


def escape(text: str) -> str:
    r"""Return text that Markdown prints as it is: `a|b_c` becomes `a\|b\_c`."""
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", " ".join(text.split()))


def _name(row: TableRow) -> str:
    return escape(row.label) + (f" {DAGGER}" if row.published else "")


def _cell(cell: TableCell, intervals: bool) -> str:
    parts = [_MARKS[cell.mark].format(cell.text)]
    if intervals and cell.interval:
        parts.append(cell.interval)
    if cell.coverage:
        parts.append(f"({cell.coverage})")
    return " ".join(parts)


def _aligned(lines: Sequence[Sequence[str]], left: int) -> str:
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(lines[0]))]
    rule = ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    padded = [
        [text.ljust(w) if i < left else text.rjust(w) for i, (text, w) in enumerate(zip(line, widths, strict=True))]
        for line in [lines[0], rule, *lines[1:]]
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)
