"""Rows of windows to lines over time: means over people, and how far each stream wandered from its first window.

Colour drift is the distance of the face's mean CIELAB colour from that of the same stream's first window (CIE76, where
2 to 3 is just seen); sharpness is the ratio of the face's to that of the first window. FID pools a window's frames of
all people and compares them with the true clips' same window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    methods = (GROUND_TRUTH, *spec.methods)
    people = [f"person-{seed}" for seed in spec.seeds]
    columns = _columns(plans)
    values = _values(rows)
    found = []
    for place in range(spec.windows):
        cells: list[Cell] = []
        contributions: dict[str, dict[str, dict[str, float]]] = {}
        for method in methods:
            persons = {name: _with_drift(values, method, name, place) for name in people}
            contributions[method] = {}
            for name, column in columns.items():
                known = {person: one[name] for person, one in persons.items() if name in one}
                if known:
                    contributions[method][name] = known
                cells.append(_cell(spec, method, name, column, known, len(people)))
        for plan in plans:
            if is_set_metric(load_metric(plan)):
                cells += _set_cells(spec, plan, rows, place, methods, features_path)
        title = f"{_clock(bounds[place] / fps)} to {_clock(bounds[place + 1] / fps)}"
        infos = tuple(MethodInfo(method) for method in methods)
        keys = tuple(row.key for row in rows if _place_of(row) == place)
        every = columns | {name: one for plan in plans for name, one in _set_columns(plan).items()}
        order = {name: number for number, name in enumerate(every)}
        cells.sort(key=lambda cell: (methods.index(cell.method), order[cell.column]))
        cells = [Cell(**{**cell.__dict__, "dataset": title}) for cell in cells]
        found.append(
            Window(
                bounds[place] / fps,
                bounds[place + 1] / fps,
                Summary(
                    title,
                    infos,
                    every,
                    tuple(cells),
                    contributions=contributions,
                    footnotes=tuple(footnotes),
                    keys=keys,
                ),
            )
        )
    return tuple(found)


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


def _set_columns(plan: MetricPlan) -> Mapping[str, Column]:
    metric = load_metric(plan)
    return metric.columns if is_set_metric(metric) else {}


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


def _cell(spec: LongSpec, method: str, name: str, column: Column, known: Mapping[str, float], total: int) -> Cell:
    mean, low, high, note = None, None, None, "no person has a value; the failures say why"
    if known:
        mean, low, high = stats.mean_interval(list(known.values()), seed=spec.seed)
        low = low if low is None or column.minimum is None else max(low, column.minimum)
        high = high if high is None or column.maximum is None else min(high, column.maximum)
        note = ""
    return Cell("", method, name, mean, low, high, len(known), total, column.unit, column.better, note)


def _set_cells(
    spec: LongSpec,
    plan: MetricPlan,
    rows: Sequence[Row],
    place: int,
    methods: Sequence[str],
    features_path: Callable[[str], Path],
) -> Iterator[Cell]:
    metric = cast("SetMetric", load_metric(plan))
    here = [row for row in rows if row.metric == plan.name and _place_of(row) == place]
    sides = {method: [row for row in here if row.method == method and not row.failure] for method in methods}
    truth = FeatureFiles(tuple(features_path(row.features) for row in sides[GROUND_TRUTH]))
    total = len(spec.seeds)
    for method in methods:
        features = FeatureFiles(tuple(features_path(row.features) for row in sides[method]))
        scored = method != GROUND_TRUTH and len(features) and len(truth)
        found = metric.distance(features, truth) if scored else {}
        for name, column in metric.columns.items():
            note = "the reference itself" if method == GROUND_TRUTH else "no features; the failures say why"
            yield Cell(
                "",
                method,
                name,
                found.get(name),
                n=len(features),
                total=0 if method == GROUND_TRUTH else total,
                unit=column.unit,
                better=column.better,
                note="" if name in found else note,
            )


def _clock(seconds: float) -> str:
    """Return minutes and seconds, with what is left of a second where there is any."""
    minutes, rest = divmod(round(seconds, 2), 60)
    text = f"{rest:05.2f}".rstrip("0").rstrip(".") if rest % 1 else f"{rest:02.0f}"
    return f"{minutes:.0f}:{text}"
