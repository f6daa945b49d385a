"""A finished run folder, as far as a report needs it: manifest, summary and the rows that the summary stands on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lt_eval.store import read_json, read_rows, read_summary

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lt_eval.records import Row, Summary


@dataclass(frozen=True)
class Run:
    """What one run folder holds. `rows` has one row a method, sample, turn and metric."""

    folder: Path
    manifest: Mapping[str, Any]
    summary: Summary
    rows: tuple[Row, ...]


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        StoreError: it is no run folder, the run is not finished, or a file of it is damaged.
    """
    summary = read_summary(folder)
    manifest = read_json(folder / "manifest.json")
    rows = {row.key: row for row in read_rows(folder)}
    return Run(folder, manifest, summary, tuple(rows[key] for key in summary.keys if key in rows))


def failures(run: Run) -> tuple[Row, ...]:
    """Return the rows without values, in the order of the table's methods and of the samples."""
    order = {method.name: i for i, method in enumerate(run.summary.methods)}
    failed = [row for row in run.rows if row.failure]
    return tuple(sorted(failed, key=lambda row: (order[row.method], row.sample, row.turn, row.metric)))
