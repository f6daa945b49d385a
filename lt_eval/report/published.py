"""Published tables as summaries: read from results/paper/, marked, and never ranked against measured rows."""

from __future__ import annotations

import csv
from importlib.resources import files

from lt_eval.errors import UnknownNameError
from lt_eval.records import GROUND_TRUTH, Cell, Column, MethodInfo, Summary

TABLES = ("table1", "table2", "table3")
"""The transcribed tables of the LiveTalk paper, arXiv:2512.23576."""

ALL = "all"
"""The choice that stands for every published table with columns of the run's kind."""

DAGGER = "†"
"""The sign of a published row."""

_NAMES = {"Ground Truth": GROUND_TRUTH, "Ours": "LiveTalk"}
_SPEED = {"Throughput (FPS)": Column("higher", "FPS"), "Latency (s)": Column("lower", "s")}
_LOWER = {"FID", "FVD", "Sync-D"}
_NOT_METRICS = {"dataset", "method", "citation", "Model Size", "source"}
_PERCENTILES = {"EA", "NI", "MVC", "CN", "SR", "IC", "LC", "CU", "OIE"}


def read(table: str) -> tuple[Summary, ...]:
    """Return one published table, one summary a data set, values as printed.

    Raises:
        UnknownNameError: there is no such published table.
    """
    if table not in TABLES:
        raise UnknownNameError(f"no published table is called {table!r}. Known: {', '.join((*TABLES, ALL))}.")
    text = (files("lt_eval.report") / "paper" / f"{table}.csv").read_text(encoding="utf-8")
    lines = list(csv.DictReader(text.splitlines()))
    datasets = dict.fromkeys(line["dataset"] for line in lines)
    return tuple(_summary(d, [line for line in lines if line["dataset"] == d]) for d in datasets)


def choose(choice: str, summaries: tuple[Summary, ...]) -> tuple[Summary, ...]:
    """Return the published summaries for `choice`: one table's name, or "all" those of the run's kind.

    Table 2 belongs beside multi-round runs, Tables 1 and 3 beside single-round ones.
    """
    if choice != ALL:
        return read(choice)
    multi_round = any(name in _PERCENTILES for summary in summaries for name in summary.columns)
    names = ("table2",) if multi_round else ("table1", "table3")
    return tuple(summary for name in names for summary in read(name))


def _summary(dataset: str, lines: list[dict[str, str]]) -> Summary:
    columns = {name: _column(name) for name in lines[0] if name not in _NOT_METRICS}
    methods, cells = [], []
    for line in lines:
        method = _NAMES.get(line["method"], line["method"])
        methods.append(MethodInfo(method, line.get("Model Size", ""), published=True))
        for name, column in columns.items():
            value = float(line[name]) if line[name] else None
            note = "" if line[name] else "not reported in the paper"
            cells.append(
                Cell(dataset, method, name, value, unit=column.unit, better=column.better, note=note),
            )
    source = lines[0]["source"]
    footnote = f"{DAGGER} published: transcribed from the LiveTalk paper, {source}; not ranked with measured rows."
    return Summary(dataset, tuple(methods), columns, tuple(cells), footnotes=(footnote,))


def _column(name: str) -> Column:
    return _SPEED.get(name) or Column("lower" if name in _LOWER else "higher")
