"""Rows and features to a table with intervals. Pure numpy: neither torch nor a clip is touched.

A clip metric is averaged over clips; a set metric is computed once per method, its interval from the influence of each
clip. What has no value is a cell that says why.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np

from lt_eval import stats
from lt_eval.errors import LtEvalError, SampleError, UnscorableError
from lt_eval.interfaces import HasFloor, HasInfluence, Influence, SetMetric
from lt_eval.measure import MetricPlan, is_set_metric, load_metric, unavailable
from lt_eval.records import GROUND_TRUTH, Cell, Column, Difference, MethodInfo, Row, Summary
from lt_eval.render import COLUMNS as RENDER_COLUMNS
from lt_eval.render import METRIC as RENDER
from lt_eval.store import FeatureFiles

SHARE = "share"
"""The unit of a column that has score intervals where every clip's value is 0 or 1."""


@dataclass
class _Table:
    """The summary while it is made."""

    dataset: str
    samples: tuple[str, ...]
    seed: int
    columns: dict[str, Column] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    floors: dict[str, float] = field(default_factory=dict)
    contributions: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def blank(self, method: str, column: str, **more: object) -> Cell:
        """Return a cell without a value."""
        known = self.columns[column]
        cell = Cell(self.dataset, method, column, None, total=len(self.samples), unit=known.unit, better=known.better)
        return replace(cell, **more)  # type: ignore[arg-type]


def summarise(
    dataset: str,
    methods: Sequence[MethodInfo],
    samples: Sequence[str],
    plans: Sequence[MetricPlan],
    rows: Sequence[Row],
    features_path: Callable[[str], Path],
    *,
    baseline: str | None = None,
    seed: int = 0,
    footnotes: Sequence[str] = (),
) -> Summary:
    """Return the table of one data set.

    Args:
        dataset: its name.
        methods: rows of the table; ground truth is the reference of set metrics.
        samples: ids, in the order of the data set.
        plans: the metrics, in the order of the columns.
        rows: one per method, sample and metric.
        features_path: where the features of a row lie.
        baseline: the method that differences are taken from; None takes the first that is not ground truth.
        seed: of the bootstrap.
        footnotes: how it was measured.
    """
    table = _Table(dataset, tuple(samples), seed)
    by_metric: dict[str, dict[str, dict[str, Row]]] = {}
    for row in rows:
        by_metric.setdefault(row.metric, {}).setdefault(row.method, {})[row.sample] = row
    names = [method.name for method in methods]
    others = [name for name in names if name != GROUND_TRUTH]
    base = baseline or (others[0] if others else None)
    if RENDER in by_metric:
        _clip_columns(table, RENDER_COLUMNS, names, by_metric[RENDER], base)
    for plan in plans:
        metric = load_metric(plan)
        found = by_metric.get(plan.name, {})
        if why := unavailable(plan):
            _empty_columns(table, metric.columns, names, why)
        elif is_set_metric(metric):
            _set_columns(table, cast("SetMetric", metric), names, found, base, features_path)
        else:
            _clip_columns(table, metric.columns, names, found, base)
    return Summary(
        dataset,
        tuple(methods),
        table.columns,
        tuple(table.cells),
        tuple(table.differences),
        table.floors,
        table.contributions,
        (*footnotes, *table.notes),
        tuple(sorted(row.key for row in rows)),
    )


def _why(rows: Mapping[str, Row]) -> str:
    """Count the failures by reason: "no_face: 3 clips, missing_clip: 1 clip"."""
    counts = Counter(row.failure.reason for row in rows.values() if row.failure)
    return ", ".join(f"{reason}: {n} clip{'s' if n > 1 else ''}" for reason, n in sorted(counts.items()))


def _empty_columns(table: _Table, columns: Mapping[str, Column], methods: Sequence[str], why: str) -> None:
    table.columns.update(columns)
    table.cells += [table.blank(method, name, note=why, total=0) for name in columns for method in methods]


def _clip_columns(
    table: _Table,
    columns: Mapping[str, Column],
    methods: Sequence[str],
    rows: Mapping[str, Mapping[str, Row]],
    base: str | None,
) -> None:
    for name, column in columns.items():
        table.columns[name] = column
        values: dict[str, dict[str, float]] = {}
        for method in methods:
            own = rows.get(method, {})
            scored = {s: own[s].values[name] for s in table.samples if s in own and name in own[s].values}
            values[method] = scored
            if not own:
                table.cells.append(table.blank(method, name, note="not measured", total=0))
                continue
            if not scored:
                table.cells.append(table.blank(method, name, note=_why(own)))
                continue
            interval = _mean(list(scored.values()), column, table.seed)
            cell = table.blank(method, name, value=interval.value, n=len(scored), note=_why(own))
            table.cells.append(replace(cell, low=interval.low, high=interval.high))
            table.contributions.setdefault(method, {})[name] = scored
        for method in _compared(methods, base, values):
            other = cast("str", base)
            common = len(values[method].keys() & values[other].keys())
            if common:
                interval = _mean_difference(values[method], values[other], column, table.seed)
                _add_difference(table, method, other, name, interval, common)


def _mean(values: Sequence[float], column: Column, seed: int) -> stats.Interval:
    """Return the mean with its interval, which ends where the column's values do."""
    if column.unit == SHARE and set(values) <= {0.0, 1.0}:
        return stats.share_interval(values)
    value, low, high = stats.mean_interval(values, seed=seed)
    if low is not None and column.minimum is not None:
        low = max(low, column.minimum)
    if high is not None and column.maximum is not None:
        high = min(high, column.maximum)
    return stats.Interval(value, low, high)


def _mean_difference(
    ours: Mapping[str, float], theirs: Mapping[str, float], column: Column, seed: int
) -> stats.Interval:
    if column.unit == SHARE and {*ours.values(), *theirs.values()} <= {0.0, 1.0}:
        return stats.share_difference(ours, theirs)
    return stats.paired_difference(ours, theirs, seed=seed)


def _compared(methods: Sequence[str], base: str | None, known: Mapping[str, object]) -> list[str]:
    """Return the methods that a difference can be taken of."""
    if base is None or not known.get(base):
        return []
    return [method for method in methods if method not in (base, GROUND_TRUTH) and known.get(method)]


def _add_difference(table: _Table, method: str, base: str, column: str, interval: stats.Interval, n: int) -> None:
    if interval.low is not None and interval.high is not None:
        table.differences.append(
            Difference(table.dataset, method, base, column, interval.value, interval.low, interval.high, n)
        )


@dataclass(frozen=True)
class _Measured:
    """A method's set of clips, compared with the reference."""

    ids: tuple[str, ...]
    values: Mapping[str, float]
    influence: Mapping[str, Influence]


def _set_columns(
    table: _Table,
    metric: SetMetric,
    methods: Sequence[str],
    rows: Mapping[str, Mapping[str, Row]],
    base: str | None,
    features_path: Callable[[str], Path],
) -> None:
    table.columns.update(metric.columns)
    sets = {method: _read_set(table, rows.get(method, {}), features_path) for method in methods}
    reference = sets.setdefault(GROUND_TRUTH, _Set((), FeatureFiles(())))
    if 0 < len(reference.ids) < len(table.samples):
        names = ", ".join(metric.columns)
        lost = _why(rows[GROUND_TRUTH])
        table.notes.append(f"{names}: {len(reference.ids)} of {len(table.samples)} references could be read ({lost}).")
    measured: dict[str, _Measured] = {}
    for method in methods:
        generated = sets[method]
        failures = _why(rows.get(method, {}))
        if method == GROUND_TRUTH:
            for name in metric.columns:
                table.cells.append(table.blank(method, name, note="a distance to itself", n=len(generated.ids)))
            continue
        try:
            if not generated.ids:
                raise UnscorableError("no_features", failures or "no clip has features")
            common = tuple(i for i in generated.ids if i in set(reference.ids))
            if not common:
                raise UnscorableError("no_reference", "no reference clip to compare with")
            measured[method] = found = _distance(metric, generated.only(common), reference.only(common))
        except SampleError as error:
            table.cells += [table.blank(method, n, note=str(error), n=len(generated.ids)) for n in metric.columns]
            continue
        for name, column in metric.columns.items():
            table.cells.append(_set_cell(table, method, name, column, found, failures))
    for method in _compared(methods, base, measured):
        with contextlib.suppress(SampleError):  # too few clips in common: no difference, as the table shows
            _set_differences(table, metric, sets, method, cast("str", base), measured)
    if isinstance(metric, HasFloor) and len(reference.ids) > 1:
        with contextlib.suppress(SampleError):
            floors = metric.floor(reference.features, len(reference.ids))
            table.floors.update({name: float(value) for name, value in floors.items() if math.isfinite(value)})


@dataclass(frozen=True)
class _Set:
    """The clips of one method that have features."""

    ids: tuple[str, ...]
    features: FeatureFiles

    def only(self, ids: Sequence[str]) -> _Set:
        """Return the clips of these ids, in their order; for all of them the set itself, whose moments are shared."""
        if tuple(ids) == self.ids:
            return self
        paths = dict(zip(self.ids, self.features.paths, strict=True))
        return _Set(tuple(ids), FeatureFiles(tuple(paths[i] for i in ids)))


def _read_set(table: _Table, rows: Mapping[str, Row], features_path: Callable[[str], Path]) -> _Set:
    ids = tuple(sample for sample in table.samples if sample in rows and rows[sample].features)
    return _Set(ids, FeatureFiles(tuple(features_path(rows[sample].features) for sample in ids)))


def _distance(metric: SetMetric, generated: _Set, reference: _Set) -> _Measured:
    """Compare two sets; whatever a plugin does wrong becomes a reason, and costs no other metric its columns."""
    sides = generated.features, reference.features
    try:
        given = {name: float(value) for name, value in metric.distance(*sides).items()}
        values = {name: value for name, value in given.items() if math.isfinite(value)}
        influence: Mapping[str, Influence] = {}
        if isinstance(metric, HasInfluence):
            influence = metric.influence(*sides)
        elif min(len(generated.ids), len(reference.ids)) > 1:
            influence = stats.jackknife_influence(
                metric.distance, *sides, generated_ids=generated.ids, reference_ids=reference.ids
            )
    except LtEvalError:
        raise
    except Exception as cause:
        raise UnscorableError("metric_error", f"{type(metric).__name__}: {type(cause).__name__}: {cause}") from cause
    pulls = {name: pull for name, pull in influence.items() if np.isfinite(np.concatenate(pull)).all()}
    return _Measured(generated.ids, values, pulls)


def _set_cell(
    table: _Table,
    method: str,
    name: str,
    column: Column,
    found: _Measured,
    failures: str,
) -> Cell:
    cell = table.blank(method, name, n=len(found.ids), note=failures)
    value = found.values.get(name)
    if value is None:
        return replace(cell, note=failures or "no value at this number of clips")
    influence = found.influence.get(name)
    if influence is None:
        return replace(cell, value=value)
    least = -math.inf if column.minimum is None else column.minimum
    interval = stats.influence_interval(
        value, influence, generated_ids=found.ids, reference_ids=found.ids, minimum=least
    )
    pulls = influence.generated / len(found.ids)
    table.contributions.setdefault(method, {})[name] = dict(zip(found.ids, map(float, pulls), strict=True))
    return replace(cell, value=value, low=interval.low, high=interval.high)


def _set_differences(
    table: _Table,
    metric: SetMetric,
    sets: Mapping[str, _Set],
    method: str,
    base: str,
    measured: Mapping[str, _Measured],
) -> None:
    """Compare two methods on the clips that both have, each with the references of just these clips."""
    common = tuple(i for i in measured[method].ids if i in set(measured[base].ids))
    if not common:
        return
    reference = sets[GROUND_TRUTH].only(common)
    pair = []
    for name in (method, base):
        whole = measured[name].ids == common
        pair.append(measured[name] if whole else _distance(metric, sets[name].only(common), reference))
    ours, other = pair
    for name in [n for n in ours.values if n in other.values and n in ours.influence and n in other.influence]:
        interval = stats.influence_difference(
            ours.values[name],
            ours.influence[name],
            other.values[name],
            other.influence[name],
            generated_ids_a=common,
            generated_ids_b=common,
            reference_ids=common,
        )
        _add_difference(table, method, base, name, interval, len(common))
