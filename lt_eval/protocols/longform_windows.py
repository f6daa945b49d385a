"""Rows of windows to lines over time: means over people, and how far each stream wandered from its first window.

Colour drift is the distance of the face's mean CIELAB colour from that of the same stream's first window (CIE76, where
2 to 3 is just seen); sharpness is the ratio of the face's to that of the first window. FID pools a window's frames of
all people and compares them with the true clips' same window; its floor is what two neighbouring windows of the true
clips have between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lt_eval import stats
from lt_eval.interfaces import SetMetric
from lt_eval.measure import MetricPlan, is_set_metric, load_metric
from lt_eval.records import GROUND_TRUTH, Cell, Column, MethodInfo, Row, Summary
from lt_eval.report.longform import Window
from lt_eval.store import FeatureFiles

if TYPE_CHECKING:
    from lt_eval.protocols.longform_spec import LongSpec

__all__ = ["DRIFT", "Window", "summarise_windows"]

COLOUR = ("Face L", "Face a", "Face b")
SHARPNESS = "Face sharpness"

DRIFT: Mapping[str, Column] = {
    "Colour drift": Column("lower", unit="ΔE", minimum=0.0),
    "Sharpness": Column("neither", unit="of the first window's", digits=3, minimum=0.0),
}
"""What is made of rows of the appearance metric, in the place of its own columns of colour and sharpness."""

UNSHOWN = (*COLOUR, SHARPNESS, "Sync in time")

Values = Mapping[str, float]
"""Column -> value of one person in one window."""


def summarise_windows(
    spec: LongSpec,
    bounds: Sequence[int],
    fps: float,
    plans: Sequence[MetricPlan],
    rows: Sequence[Row],
    features_path: Callable[[str], Path],
    footnotes: Sequence[str],
) -> tuple[Window, ...]:
    """Return the table of each window.

    Args:
        spec: of the run.
        bounds: the first frame of each window, and the one behind the last.
        fps: of the clips.
        plans: of the metrics.
        rows: of all windows of all methods, with values or a failure each.
        features_path: key -> file of the features of a row.
        footnotes: of every table.
    """
    values = _values(rows)
    shown = _columns(plans)
    sets = [
        (cast("SetMetric", load_metric(plan)), _features(plan, rows, features_path))
        for plan in plans
        if is_set_metric(load_metric(plan))
    ]
    columns = shown | {name: one for metric, _ in sets for name, one in metric.columns.items()}
    order = {name: number for number, name in enumerate(columns)}
    methods = (GROUND_TRUTH, *spec.methods)
    found = []
    for place in range(spec.windows):
        known = {method: _of_people(spec, values, method, place, shown) for method in methods}
        cells = [
            _cell(spec, m, name, column, known[m].get(name, {})) for m in methods for name, column in shown.items()
        ]
        floors: dict[str, float] = {}
        for metric, features in sets:
            cells += _set_cells(spec, metric, features, place, methods)
            floors |= _floors(spec, metric, features, place)
        cells.sort(key=lambda cell: (methods.index(cell.method), order[cell.column]))
        start_s, end_s = bounds[place] / fps, bounds[place + 1] / fps
        title = f"{_clock(start_s)} to {_clock(end_s)}"
        summary = Summary(
            title,
            tuple(map(MethodInfo, methods)),
            columns,
            tuple(replace(cell, dataset=title) for cell in cells),
            floors=floors,
            contributions=known,
            footnotes=tuple(footnotes),
            keys=tuple(row.key for row in rows if _place_of(row) == place),
            # all are 0 in the first window, by definition: nobody is best
            marks={name: {} for name in DRIFT} if place == 0 else {},
        )
        found.append(Window(start_s, end_s, summary))
    return tuple(found)


def _of_people(
    spec: LongSpec,
    values: Mapping[tuple[str, str, int], Values],
    method: str,
    place: int,
    columns: Mapping[str, Column],
) -> dict[str, dict[str, float]]:
    """Return column -> person -> value of one method's window, leaving out what nobody has."""
    persons = {f"person-{seed}": _with_drift(values, method, f"person-{seed}", place) for seed in spec.seeds}
    found = {name: {person: one[name] for person, one in persons.items() if name in one} for name in columns}
    return {name: known for name, known in found.items() if known}


def _columns(plans: Sequence[MetricPlan]) -> dict[str, Column]:
    """Return the columns that persons have values of."""
    found: dict[str, Column] = {}
    for plan in plans:
        if is_set_metric(load_metric(plan)):
            continue
        shown = {n: c for n, c in load_metric(plan).columns.items() if n.split(" (")[0] not in UNSHOWN}
        found |= shown
        if plan.name == "appearance":
            found |= DRIFT
    return found


def _place_of(row: Row) -> int:
    return int(row.sample.rpartition("-")[2])


def _values(rows: Sequence[Row]) -> dict[tuple[str, str, int], dict[str, float]]:
    """Return (method, person, window) -> column -> value."""
    found: dict[tuple[str, str, int], dict[str, float]] = {}
    for row in rows:
        found.setdefault((row.method, row.sample.partition("/")[0], _place_of(row)), {}).update(row.values)
    return found


def _with_drift(
    values: Mapping[tuple[str, str, int], Values], method: str, person: str, place: int
) -> Mapping[str, float]:
    """Return the values of a window, with what compares them with the same stream's first window."""
    now, first = values.get((method, person, place), {}), values.get((method, person, 0), {})
    found = dict(now)
    if all(name in now and name in first for name in COLOUR):
        found["Colour drift"] = math.dist([now[name] for name in COLOUR], [first[name] for name in COLOUR])
    if SHARPNESS in now and first.get(SHARPNESS, 0.0) > 0:
        found["Sharpness"] = now[SHARPNESS] / first[SHARPNESS]
    return found


def _cell(spec: LongSpec, method: str, name: str, column: Column, known: Mapping[str, float]) -> Cell:
    mean, low, high, note = None, None, None, "no person has a value; the failures say why"
    if known:
        mean, low, high = stats.mean_interval(list(known.values()), seed=spec.seed)
        low = low if low is None or column.minimum is None else max(low, column.minimum)
        high = high if high is None or column.maximum is None else min(high, column.maximum)
        note = ""
    return Cell("", method, name, mean, low, high, len(known), len(spec.seeds), column.unit, column.better, note)


@dataclass(frozen=True)
class _Features:
    """Where the features of a set metric lie: (method, window) -> person -> file."""

    files: Mapping[tuple[str, int], Mapping[str, Path]]

    def pair(self, one: tuple[str, int], other: tuple[str, int]) -> tuple[FeatureFiles, FeatureFiles]:
        """Return the features of the people that both have, in one order: who failed is left out of both sides."""
        left, right = self.files.get(one, {}), self.files.get(other, {})
        people = sorted(left.keys() & right.keys())
        return FeatureFiles(tuple(left[p] for p in people)), FeatureFiles(tuple(right[p] for p in people))


def _features(plan: MetricPlan, rows: Sequence[Row], path: Callable[[str], Path]) -> _Features:
    files: dict[tuple[str, int], dict[str, Path]] = {}
    for row in rows:
        if row.metric == plan.name and not row.failure:
            person = row.sample.partition("/")[0]
            files.setdefault((row.method, _place_of(row)), {})[person] = path(row.features)
    return _Features(files)


def _set_cells(
    spec: LongSpec, metric: SetMetric, features: _Features, place: int, methods: Sequence[str]
) -> Iterator[Cell]:
    """Yield the distances of each method from the true clips' same window."""
    for method in methods:
        own = method == GROUND_TRUTH
        generated, truth = features.pair((method, place), (GROUND_TRUTH, place))
        found = metric.distance(generated, truth) if len(generated) and not own else {}
        note = "the reference itself" if own else "no features; the failures say why"
        for name, column in metric.columns.items():
            yield Cell(
                "",
                method,
                name,
                found.get(name),
                n=len(generated),
                total=0 if own else len(spec.seeds),
                unit=column.unit,
                better=column.better,
                note="" if name in found else note,
            )


def _floors(spec: LongSpec, metric: SetMetric, features: _Features, place: int) -> Mapping[str, float]:
    """Return what two windows of the true clips have between them: no stream can be expected below that."""
    if spec.windows < 2:
        return {}
    beside = place + 1 if place + 1 < spec.windows else place - 1
    here, there = features.pair((GROUND_TRUTH, place), (GROUND_TRUTH, beside))
    return metric.distance(there, here) if len(here) else {}


def _clock(seconds: float) -> str:
    """Return minutes and seconds, with what is left of a second where there is any."""
    minutes, rest = divmod(round(seconds, 2), 60)
    text = f"{rest:05.2f}".rstrip("0").rstrip(".") if rest % 1 else f"{rest:02.0f}"
    return f"{minutes:.0f}:{text}"
