"""Clips to rows: plan what must be measured, measure one clip with all its metrics on one decode.

plan     method x sample -> task, holding only the metrics whose key has no finished row
measure  task -> rows and features; runs here, in a worker process or on Ray, with the same result
"""

from __future__ import annotations

import functools
import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from lt_eval import fingerprint
from lt_eval.errors import MissingClipError, SampleError, SpecError, UnscorableError, UsageError, reason_of
from lt_eval.execution import WorkerLost, map_tasks
from lt_eval.interfaces import ClipMetric, HasFindings, HasFootnotes, MayBeUnavailable, SetMetric
from lt_eval.paths import faces_sidecar
from lt_eval.records import Better, Column, Dialogue, Failure, MediaPolicy, Row, Sample, Score
from lt_eval.registry import create
from lt_eval.store import key_of

if TYPE_CHECKING:
    from lt_eval.interfaces import Clip
    from lt_eval.records import Features
    from lt_eval.spec import ExecutionPolicy, MetricSpec

Metric = ClipMetric | SetMetric

RETRIED = frozenset({"worker_lost", "metric_error"})
"""Failures that say nothing of the clip: a run that is continued tries them again."""


@dataclass(frozen=True)
class MetricPlan:
    """A metric as any process can make it. `options` and `offered` are JSON, so that the plan can be hashed."""

    name: str
    options: str
    offered: str
    fingerprint: str = ""


@dataclass(frozen=True)
class ClipTask:
    """One clip and the metrics it still lacks. `keys` are those of the rows, one a metric."""

    dataset: str
    method: str
    dialogue: Dialogue
    path: Path
    policy: MediaPolicy
    metrics: tuple[MetricPlan, ...]
    keys: tuple[str, ...]
    absent: str = ""


@dataclass(frozen=True)
class ClipResult:
    """The rows of one clip, and the features that they name."""

    rows: tuple[Row, ...]
    features: Mapping[str, Features] = field(default_factory=dict)


@functools.lru_cache(maxsize=64)
def _make(name: str, options: str, offered: str) -> Metric:
    return cast("Metric", create("metrics", name, json.loads(options), offered=json.loads(offered)))


def load_metric(plan: MetricPlan) -> Metric:
    """Return this process's metric object of a plan."""
    return _make(plan.name, plan.options, plan.offered)


def metric_notes(plans: Sequence[MetricPlan], rows: Sequence[Row]) -> list[str]:
    """Return what metrics say of how they measure and of what they found in finished rows."""
    notes: list[str] = []
    for plan in plans:
        metric = load_metric(plan)
        if isinstance(metric, HasFootnotes):
            notes.extend(metric.footnotes)
        if isinstance(metric, HasFindings):
            notes.extend(metric.findings([row.details for row in rows if row.metric == plan.name and not row.failure]))
    return notes


def is_set_metric(metric: Metric) -> bool:
    """Return whether a metric compares sets of clips rather than scoring each."""
    return callable(getattr(metric, "features", None)) and callable(getattr(metric, "distance", None))


def unavailable(plan: MetricPlan) -> str:
    """Return why a metric has no value for any clip with these options; empty where it can score."""
    metric = load_metric(plan)
    return metric.unavailable if isinstance(metric, MayBeUnavailable) else ""


def plan_metric(spec: MetricSpec, offered: Mapping[str, Any]) -> MetricPlan:
    """Make a metric once, so that missing weights and wrong options are reported before any work is done.

    Raises:
        UsageError: unknown metric, wrong option, missing weights.
        SpecError: it is not a metric of single clips or of sets of clips.
    """
    try:
        options, other = json.dumps(dict(spec.options), sort_keys=True), json.dumps(dict(offered), sort_keys=True)
    except TypeError as cause:
        raise SpecError(
            f"[metric.{spec.name}]: options are numbers, texts, true or false, and lists of them: {cause}."
        ) from None
    metric = _make(spec.name, options, other)
    if not is_set_metric(metric) and not callable(getattr(metric, "score", None)):
        raise SpecError(
            f"metric {spec.name!r} ({type(metric).__name__}) has neither score(sample) nor features(clip) and "
            "distance(generated, reference); see docs/plugins.md."
        )
    for name, column in metric.columns.items():
        if not isinstance(column, Column) or column.better not in get_args(Better):
            raise SpecError(
                f"metric {spec.name!r}, column {name!r}: it must be Column(better, ...) with better one of "
                f"{', '.join(get_args(Better))}; it is {column!r}."
            )
    return MetricPlan(spec.name, options, other, fingerprint.of_plugin(metric, spec.name, spec.options))


def plan_clip(
    dataset: str,
    method: str,
    dialogue: Dialogue,
    path: Path,
    policy: MediaPolicy,
    metrics: Sequence[MetricPlan],
    *,
    absent: str = "",
) -> ClipTask:
    """Return the task of one clip with the keys of its rows.

    Args:
        dataset: name of the data set.
        method: name of the table's row.
        dialogue: the item the clip answers.
        path: the clip.
        policy: how it is read.
        metrics: what is measured.
        absent: why there is no clip; empty where there is one.
    """
    turn = dialogue.turns[0]
    picture = (fingerprint.of_decoding(), fingerprint.of_file(path), policy, turn.content)
    keys = []
    for plan in metrics:
        words: tuple[object, ...] = ()
        if not is_set_metric(load_metric(plan)):
            files = (turn.speech, turn.reference, turn.faces, faces_sidecar(path), dialogue.portrait)
            stated = faces_sidecar(dialogue.portrait) if dialogue.portrait is not None else None
            stated_hash = (fingerprint.of_file(stated),) if stated is not None and stated.is_file() else ()
            words = (*map(fingerprint.of_file, files), *stated_hash, turn.text, dialogue.prompt, plan.offered)
        device = json.loads(plan.offered).get("device")
        known = (*picture, *words, *((absent,) if absent else ()))  # absence is no property of the files
        keys.append(key_of("row-1", method, dialogue.id, plan.name, plan.fingerprint, device, *known))
    return ClipTask(dataset, method, dialogue, path, policy, tuple(metrics), tuple(keys), absent)


def remaining(tasks: Sequence[ClipTask], done: Mapping[str, Row]) -> list[ClipTask]:
    """Return the tasks that still have something to measure, holding only that."""
    left = []
    for task in tasks:
        todo = [pair for pair in zip(task.metrics, task.keys, strict=True) if _open(done.get(pair[1]))]
        if todo:
            plans, keys = zip(*todo, strict=True)
            left.append(ClipTask(**{**task.__dict__, "metrics": plans, "keys": keys}))
    return left


def _open(row: Row | None) -> bool:
    return row is None or (row.failure is not None and row.failure.reason in RETRIED)


def measure_clip(task: ClipTask) -> ClipResult:
    """Measure one clip. What is wrong with the clip becomes rows; what is wrong with the run is raised.

    Raises:
        UsageError: weights or a package are missing: no other clip would fare better.
    """
    from lt_eval.media.clip import MediaClip

    if task.absent:
        return ClipResult(tuple(_failed(task, i, Failure("missing_clip", task.absent)) for i in range(len(task.keys))))
    rows: list[Row] = []
    features: dict[str, Features] = {}
    with MediaClip(task.path, task.policy, content=task.dialogue.turns[0].content) as clip:
        for index, plan in enumerate(task.metrics):
            started = time.perf_counter()
            try:
                row, found = _measure_one(task, index, load_metric(plan), clip)
            except UsageError:
                raise
            except SampleError as error:
                row, found = _failed(task, index, Failure(reason_of(error), str(error))), None
            except (Exception, SystemExit) as error:  # a plugin's bug on one clip must not cost the other clips
                at = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{Path(at.filename).name}, line {at.lineno}; the traceback is in rows.jsonl"
                failure = Failure("metric_error", f"{plan.name}: {type(error).__name__}: {error} ({where})")
                row, found = _failed(task, index, failure, traceback=traceback.format_exc()), None
            seconds = round(time.perf_counter() - started, 4)
            rows.append(Row(**{**row.__dict__, "details": {**row.details, "seconds": seconds}}))
            if found is not None:
                features[row.features] = found
    return ClipResult(tuple(rows), features)


def _measure_one(task: ClipTask, index: int, metric: Metric, clip: Clip) -> tuple[Row, Features | None]:
    import numpy as np

    if is_set_metric(metric):
        found = np.asarray(cast("SetMetric", metric).features(clip), dtype=np.float32)
        if found.ndim != 2 or len(found) == 0:
            raise UnscorableError("no_features", f"{task.path}: the metric gave features of shape {found.shape}.")
        if not np.isfinite(found).all():
            raise UnscorableError("not_finite", f"{task.path}: the metric gave features that are not finite.")
        return _row(task, index, features=task.keys[index], details={"features": len(found)}), found
    answer = cast("ClipMetric", metric).score(Sample(task.method, task.dialogue, 0, clip))
    scored = answer if isinstance(answer, Score) else Score(answer)
    values = {name: float(value) for name, value in scored.values.items()}
    strange = [name for name, value in values.items() if not np.isfinite(value) or name not in metric.columns]
    if strange:
        raise UnscorableError(
            "not_finite", f"{task.path}: {strange[0]} = {scored.values[strange[0]]} is no value of a column."
        )
    return _row(task, index, values=values, details=dict(scored.details)), None


def _row(task: ClipTask, index: int, **more: Any) -> Row:
    reference = task.dialogue.turns[0].reference
    details = {**more.pop("details", {}), **({"reference": str(reference)} if reference else {})}
    return Row(
        dataset=task.dataset,
        method=task.method,
        sample=task.dialogue.id,
        turn=0,
        metric=task.metrics[index].name,
        key=task.keys[index],
        clip="" if task.absent else str(task.path),
        details=details,
        **more,
    )


def _failed(task: ClipTask, index: int, failure: Failure, **details: Any) -> Row:
    return _row(task, index, failure=failure, details=details)


def measure(
    tasks: Sequence[ClipTask],
    policy: ExecutionPolicy,
    keep: Callable[[ClipResult], None],
    progress: Callable[[int, int, str], None],
) -> None:
    """Measure all tasks; `keep` is called with each clip's result as soon as it is there.

    Args:
        tasks: what `remaining` returned.
        policy: where to run.
        keep: stores a result; a clip is lost only if the process dies before it returns.
        progress: told (clips done, clips in all, what was done last).
    """
    results: Iterator[tuple[int, ClipResult | WorkerLost]] = map_tasks(measure_clip, tasks, policy)
    for done, (index, result) in enumerate(results, 1):
        task = tasks[index]
        if isinstance(result, WorkerLost):
            failure = Failure("worker_lost", result.message)
            result = ClipResult(tuple(_failed(task, i, failure) for i in range(len(task.keys))))
        keep(result)
        progress(done, len(tasks), f"{task.method}/{task.dialogue.id}")


def absent_message(method: str, dialogue: Dialogue, folder: Path) -> str:
    """Return the failure message of a clip that a method's folder does not hold."""
    finding = f"{method} has no clip for sample {dialogue.id!r}"
    return str(MissingClipError(folder, finding, f"Put {dialogue.id}.mp4 there; it counts as a failure until then."))
