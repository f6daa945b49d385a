r"""LaTeX: a table to paste into a paper. Bold best, underlined second, intervals in small print."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from lt_eval.report.published import DAGGER
from lt_eval.report.table import Header, Table, TableCell, TableRow

if TYPE_CHECKING:
    from collections.abc import Iterator

_ARROWS = {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "": ""}
_MARKS = {"best": r"\textbf{%s}", "second": r"\underline{%s}", "gain": r"\textbf{%s}", "loss": r"\textbf{%s}", "": "%s"}
_ESCAPES = {
    **{c: f"\\{c}" for c in "%_&#{}$"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''"},
    **{"–": "--", "—": "---", "…": r"\ldots{}", "†": r"$^\dagger$", "’": "'", "‘": "`", "“": "``", "”": "''"},
    **{"↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\rightarrow$", "←": r"$\leftarrow$"},
    **{"×": r"$\times$", "±": r"$\pm$", "−": "$-$", "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$"},
    **{"·": r"$\cdot$", "°": r"$^\circ$", "µ": r"$\mu$", "μ": r"$\mu$", "σ": r"$\sigma$", "∞": r"$\infty$"},
    **{
        "²": "$^2$",
        "³": "$^3$",
        "Δ": r"$\Delta$",
        "Φ": r"$\Phi$",
        "α": r"$\alpha$",
        "[": "{[}",
        "]": "{]}",
        "`": r"\textasciigrave{}",
    },
}
_LATIN = re.compile(r"[\x20-\x7eÀ-ÖØ-öø-ž]")
_SIZES = ((78, r"\small"), (92, r"\footnotesize"), (110, r"\scriptsize"))
"""Characters of a line that fit the text of a two-column paper (seven inches) at each size."""


def render(table: Table, *, intervals: bool = True) -> str:
    r"""Return a table* environment with its notes, and the packages it needs in a comment.

    With `intervals`, each method has a second, smaller line with the 95 % intervals under its values. A table that fits
    the page at no size is scaled down.
    """
    widest = max((_characters(table, row, intervals) for block in table.blocks for row in block.rows), default=0)
    size = next((size for limit, size in _SIZES if widest <= limit), "")
    columns = "l" * (2 if table.has_model_size else 1) + "r" * len(table.headers)
    tabular = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *_lines(table, intervals), r"\end{tabular}"]
    scaled = tabular if size else [r"\resizebox{\textwidth}{!}{%", *tabular, "}"]
    marked = any(cell.mark == "best" for block in table.blocks for row in block.rows for cell in row.cells)
    legend = " Best in bold, second underlined." if marked else ""
    caption = [rf"\caption{{{escape(table.caption)}.{legend}}}"] if table.caption else []
    opening = [r"\begin{table*}[t]", r"\centering", size or r"\small", r"\setlength{\tabcolsep}{3pt}", *caption]
    body = "\n".join([*opening, *scaled, *_closing(table)])
    return "\n".join([*_preamble(body), body]) + "\n"


def escape(text: str) -> str:
    """Return text that LaTeX prints as it is; letters beyond Latin stay, and need XeLaTeX or LuaLaTeX."""
    printable = "".join(c for c in " ".join(text.split()) if unicodedata.category(c)[0] != "C")
    return "".join(_ESCAPES.get(c, c) for c in printable)


def _preamble(body: str) -> Iterator[str]:
    packages = ["booktabs", *(["graphicx"] if r"\resizebox" in body else [])]
    yield rf"% needs \usepackage{{{','.join(packages)}}}"
    if not all(_LATIN.match(c) for c in body if c != "\n"):
        yield "% holds letters that pdfLaTeX lacks: compile with XeLaTeX or LuaLaTeX and a font that has them"


def _lines(table: Table, intervals: bool) -> Iterator[str]:
    sized = ["Model Size"] if table.has_model_size else []
    split = [_split(header) for header in table.headers]
    if table.groups:
        yield from _groups(table, 1 + len(sized))
    if any(over for over, _ in split):
        yield _line(["", *[""] * len(sized), *(escape(over) for over, _ in split)])
    heads = [f"{escape(head)} {_ARROWS[h.arrow]}".strip() for h, (_, head) in zip(table.headers, split, strict=True)]
    yield _line(["Methods", *sized, *heads])
    for block in table.blocks:
        yield r"\midrule"
        yield rf"\multicolumn{{{1 + len(sized) + len(heads)}}}{{l}}{{\textit{{{escape(block.dataset)}}}}} \\"
        for row, above in zip(block.rows, (None, *block.rows), strict=False):
            if row.published and above and not above.published:
                yield r"\addlinespace"
            size = [escape(row.model_size) or "--"] if sized else []
            below = intervals and any(cell.interval for cell in row.cells)
            yield _line([_name(row), *size, *(_cell(cell) for cell in row.cells)], "[-2pt]" if below else "")
            if below:
                yield _line(["", *[""] * len(sized), *(_small(cell) for cell in row.cells)], "[2pt]")
    yield r"\bottomrule"


def _groups(table: Table, before: int) -> Iterator[str]:
    """Write Table 2's titles over the judged columns, with a rule under each."""
    cells, rules, column = [""] * before, [], before + 1
    for title, count in table.groups:
        cells.append(rf"\multicolumn{{{count}}}{{c}}{{{escape(title)}}}")
        if title:
            rules.append(rf"\cmidrule(lr){{{column}-{column + count - 1}}}")
        column += count
    yield _line(cells)
    yield "".join(rules)


def _closing(table: Table) -> Iterator[str]:
    if table.notes:
        yield r"\par\smallskip"
        yield r"\begin{minipage}{\linewidth}\scriptsize"
        yield from (f"{escape(note)}" + r"\par" for note in table.notes)
        yield r"\end{minipage}"
    yield r"\end{table*}"


def _split(header: Header) -> tuple[str, str]:
    """Break "Latency (s)" over two lines: the words in brackets go under the name."""
    over, bracket, under = header.label.partition(" (")
    return (over, f"({under}") if bracket else ("", over)


def _line(cells: list[str], skip: str = "") -> str:
    return " & ".join(cells) + r" \\" + skip


def _name(row: TableRow) -> str:
    return escape(row.label) + (_ESCAPES[DAGGER] if row.published else "")


def _number(text: str) -> str:
    """Set the sign in math mode, where a minus is not a hyphen."""
    return re.sub(r"[+-](?=\d)", r"$\g<0>$", text)


def _cell(cell: TableCell) -> str:
    if cell.value is None:
        return "--" + _coverage(cell)
    return _MARKS[cell.mark].replace("%s", _number(cell.text)) + _coverage(cell)


def _coverage(cell: TableCell) -> str:
    return rf" {{\tiny({cell.coverage})}}" if cell.coverage else ""


def _small(cell: TableCell) -> str:
    # a line that begins with "[" would be read as the optional argument of the \\ before it
    return rf"{{\tiny {{[}}{_number(cell.interval[1:-1])}{{]}}}}" if cell.interval else ""


def _characters(table: Table, row: TableRow, intervals: bool) -> int:
    widths = []
    for header, cell in zip(table.headers, row.cells, strict=True):
        value = len(cell.text) + (len(cell.coverage) if cell.coverage else 0)
        signs = sum(cell.interval.count(sign) for sign in "+-")  # set in math mode, they are wider than a digit
        small = (len(cell.interval) + signs) * 0.6 if intervals else 0
        head = max(map(len, _split(header))) + 2
        widths.append(max(head, value, small) + 1)
    return len(row.label) + len(row.model_size) + int(sum(widths))
