"""The two tables of a multi-round run in every text format: percentiles as in Table 2, and raw means beside."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lt_eval.errors import UsageError
from lt_eval.report import csv, latex, markdown, text
from lt_eval.report.formats import check
from lt_eval.report.table import Table, differences, wide

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lt_eval.records import Summary

_WRITERS: dict[str, Callable[..., str]] = {
    "text": text.render,
    "markdown": markdown.render,
    "latex": latex.render,
}


def render_rounds(
    format: str,
    percentiles: Sequence[Summary],
    raw: Sequence[Summary],
    *,
    tidy: bool = False,
    names: Sequence[str] = (),
    with_paper: str | None = None,
    width: int | None = None,
    color: bool = False,
) -> str:
    """Return percentiles, raw means and paired differences; CSV holds the first two as blocks of one table.

    Args:
        format: "text", "markdown", "csv" or "latex".
        percentiles: one a run.
        raw: one a run, in the same order.
        tidy: the long form, csv only.
        names: of the runs, which tell them apart.
        with_paper: a published table to set beside the percentiles: "table2" or "all".
        width: of the terminal, to which text is folded.
        color: let text use the terminal's bold, underline and colours.

    Raises:
        UsageError: there is no such format, or it has no such form.
        UnknownNameError: there is no such published table.
    """
    check(format, tidy=tidy)
    if format == "html":
        raise UsageError("html is a folder of files: say where it shall go with --out FOLDER.")
    judged = is_judged(raw)
    both, twice = [*percentiles, *(raw if judged else ())], [*names, *(names if judged else ())]
    if tidy:
        return csv.render_tidy(both, names=twice, with_paper=with_paper)
    if format == "csv":
        return csv.render(wide(both, names=twice, with_paper=with_paper))
    more = {"width": width, "color": color} if format == "text" else {}
    return "\n".join(_WRITERS[format](table, **more) for table in tables(percentiles, raw, names, with_paper))


def is_judged(raw: Sequence[Summary]) -> bool:
    """Whether any raw mean has a value; a table of dashes alone is not printed."""
    return any(cell.value is not None for summary in raw for cell in summary.cells)


def tables(
    percentiles: Sequence[Summary], raw: Sequence[Summary], names: Sequence[str], with_paper: str | None
) -> list[Table]:
    """Return the percentiles' table, that of the raw means and the differences, the latter two where there are any."""
    found = [wide(percentiles, names=names, with_paper=with_paper)]
    found += [wide(raw, names=names)] if is_judged(raw) else []
    caption = "Paired differences of percentiles on the scenarios that all methods have, with 95 % intervals"
    compared = replace(differences(percentiles, names=names), caption=caption)
    return [*found, compared] if compared.blocks else found
