"""The single-round protocol: one portrait, one audio clip, one video. Table 1 of the paper, read from top to bottom.

Ground truth is measured like any other method, once; every method is compared with it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lt_eval import provenance
from lt_eval.bench.host import Host
from lt_eval.datasets.folder import match_clips
from lt_eval.errors import DatasetError, LtEvalError, MissingWeightsError, SpecError, StoreError
from lt_eval.interfaces import HasFootnotes, HasMethods
from lt_eval.measure import (
    ClipTask,
    MetricPlan,
    absent_message,
    load_metric,
    measure,
    metric_notes,
    plan_clip,
    plan_metric,
    remaining,
    unavailable,
)
from lt_eval.records import GROUND_TRUTH, Cell, Dialogue, MethodInfo, Row, Summary
from lt_eval.registry import create, suggestion, targets
from lt_eval.render import COLUMNS as RENDER_COLUMNS
from lt_eval.render import is_rendered, render_in, render_key, warm_up_in
from lt_eval.spec import MethodSpec, RunSpec, check_method_name
from lt_eval.store import RunStore, read_json
from lt_eval.summarise import summarise
from lt_eval.weights import missing as missing_weights

if TYPE_CHECKING:
    from lt_eval.interfaces import Dataset

Progress = Callable[[str, int, int, str], None]
"""Told (stage, done, in all, what was done last)."""


@dataclass(frozen=True)
class Outcome:
    """A finished run: its table, the rows that failed, and the cells that should have a value and have none."""

    summary: Summary
    failures: tuple[Row, ...]
    lacking: tuple[Cell, ...]


@dataclass(frozen=True)
class _Method:
    info: MethodInfo
    clips: Mapping[str, Path]
    folder: Path
    extra: tuple[str, ...] = ()
    rendered: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def run(spec: RunSpec, out: Path, *, progress: Progress, say: Callable[[str], None]) -> Outcome:
    """Run, or continue, the single-round protocol in the folder `out`.

    Args:
        spec: what to run.
        out: the run folder; rows of an earlier, interrupted run there are kept.
        progress: told of every finished clip.
        say: told what a user should know.

    Raises:
        UsageError: the spec, the data set, the weights or the folder cannot be used.
    """
    spec = _resolved(spec)
    _refuse_nothing_to_do(spec)
    dataset = cast("Dataset", create("datasets", spec.dataset.name, spec.dataset.options))
    offered = {"weights": spec.weights, "device": spec.device, "seed": spec.seed}
    plans = _plans(spec, offered)
    _refuse_shared_columns(plans)
    everything = tuple(dataset[i] for i in range(len(dataset)))
    _check_dialogues(spec.dataset.name, everything)
    dialogues = everything[: spec.limit]
    with RunStore(out) as store:
        _refuse_other_dataset(out, spec.dataset.name, dataset.version)
        methods = _methods(spec, dataset, everything, store, progress, say)
        store.write_manifest(_manifest(spec, dataset, dialogues, plans, methods, out))
        tasks = _tasks(spec, dialogues, [plan for plan in plans if not unavailable(plan)], methods)
        todo = remaining(tasks, store.rows())
        if len(todo) < len(tasks):
            say(f"{len(tasks) - len(todo)} of {len(tasks)} clips were measured before and are kept.")
        measure(
            todo,
            spec.execution,
            keep=lambda result: store.append(result.rows, result.features),
            progress=lambda done, total, what: progress("measure", done, total, what),
        )
        progress("summarise", 0, 1, "")
        rows = store.rows()
        wanted = {key: rows[key] for task in tasks for key in task.keys}
        rendered = [rows[key] for method in methods for key in method.rendered]
        summary = summarise(
            spec.dataset.name,
            tuple(method.info for method in methods),
            tuple(dialogue.id for dialogue in dialogues),
            plans,
            [*wanted.values(), *rendered],
            store.features_path,
            baseline=spec.baseline,
            seed=spec.seed,
            footnotes=(
                *_footnotes(spec, plans, tuple(wanted.values())),
                *(note for method in methods for note in method.notes),
            ),
        )
        store.write_summary(summary)
        progress("summarise", 1, 1, "")
    failures = tuple(row for row in [*wanted.values(), *rendered] if row.failure)
    return Outcome(summary, failures, tuple(cell for cell in summary.cells if _is_lacking(cell, summary)))


def _resolved(spec: RunSpec) -> RunSpec:
    if not spec.dataset.name:
        names = ", ".join(targets("datasets"))
        raise SpecError(
            f"No data set was named. Use --dataset NAME ({names}), or --reference FOLDER for your own clips."
        )
    if spec.weights == "auto":
        spec = replace(spec, weights="builtin" if spec.dataset.name == "demo" else "official")
    if spec.device == "cpu" or spec.execution.executor == "ray":  # on a cluster, the workers know their devices
        return spec
    from lt_eval.metrics.nets.inference import resolve_device

    return replace(spec, device=resolve_device(spec.device))


def _refuse_nothing_to_do(spec: RunSpec) -> None:
    if not spec.metrics and not any(method.generator for method in spec.methods):
        raise SpecError(
            "The metric speed alone measures how fast a generator makes clips, and no generator was named. "
            "Add --generator NAME, or name other metrics."
        )


def _plans(spec: RunSpec, offered: Mapping[str, Any]) -> tuple[MetricPlan, ...]:
    """Make all metrics; what several of them lack is told at once."""
    plans: list[MetricPlan] = []
    lacking: list[tuple[str, ...]] = []
    for metric in spec.metrics:
        try:
            plans.append(plan_metric(metric, offered))
        except MissingWeightsError as error:
            lacking += error.wanted
    if lacking:
        raise missing_weights(*dict.fromkeys(lacking))
    return tuple(plans)


def _refuse_shared_columns(plans: Sequence[MetricPlan]) -> None:
    owner: dict[str, str] = {}
    for plan in plans:
        for column in load_metric(plan).columns:
            if column in owner:
                raise SpecError(
                    f"metrics {owner[column]!r} and {plan.name!r} both have a column {column!r}, and a table can show "
                    "only one. Run them into two folders; `lt-eval report RUN1 RUN2` shows them together."
                )
            owner[column] = plan.name


def _check_dialogues(name: str, dialogues: Sequence[Dialogue]) -> None:
    if not dialogues:
        raise DatasetError(f"data set {name!r} holds no sample; there is nothing to measure.")
    seen: set[str] = set()
    for dialogue in dialogues:
        parts = Path(dialogue.id).parts
        if not parts or Path(dialogue.id).is_absolute() or ".." in parts or "\0" in dialogue.id:
            raise DatasetError(f"data set {name!r}: {dialogue.id!r} is no sample id; it names a file below a folder.")
        if dialogue.id in seen:
            raise DatasetError(f"data set {name!r} has two samples {dialogue.id!r}; every id must occur once.")
        if not dialogue.turns:
            raise DatasetError(f"data set {name!r}: sample {dialogue.id!r} has no turn; it needs at least one.")
        seen.add(dialogue.id)


def _is_lacking(cell: Cell, summary: Summary) -> bool:
    own = cell.method == GROUND_TRUTH and summary.columns[cell.column].fixed_by_reference
    asked_for = cell.total > 0 and cell.column not in RENDER_COLUMNS
    return cell.value is None and asked_for and not own


def _refuse_other_dataset(out: Path, name: str, version: str) -> None:
    path = out / "manifest.json"
    if not path.is_file():
        return
    held = read_json(path).get("dataset", {})
    if held.get("name") != name:
        raise StoreError(
            f"{out}: holds a run on data set {held.get('name')!r}, and this one is on {name!r}. "
            "Choose another --out, or delete that folder."
        )
    if held.get("version") != version:
        raise StoreError(
            f"{out}: holds a run on another version of data set {name!r} ({held.get('version')}, now {version}). "
            "Choose another --out, or delete that folder."
        )


def _methods(
    spec: RunSpec,
    dataset: Dataset,
    everything: Sequence[Dialogue],
    store: RunStore,
    progress: Progress,
    say: Callable[[str], None],
) -> tuple[_Method, ...]:
    """Return the rows of the table, ground truth first; generators make their clips here."""
    dialogues = everything[: spec.limit]
    references = {d.id: d.turns[0].reference for d in dialogues}
    known = {name: path.absolute() for name, path in references.items() if path is not None}
    # a data set of recordings alone has no ground truth: a row of failures would say something is wrong with it
    found = [_Method(MethodInfo(GROUND_TRUTH), known, Path(spec.dataset.name))] if known else []
    brought = dataset.methods if isinstance(dataset, HasMethods) else {}
    specs = [MethodSpec(name, clips=str(folder)) for name, folder in brought.items()] + list(spec.methods)
    names = [method.name for method in specs]
    if not names:
        say("No method was named, so only the references are measured; --clips NAME=FOLDER adds one.")
    for name in names:
        check_method_name(name)
        if names.count(name) > 1:
            raise SpecError(f"method {name!r} is given twice; every row of the table needs a name of its own.")
    if spec.baseline is not None and spec.baseline not in names:
        raise SpecError(f"baseline = {spec.baseline!r} is no method of this run.{suggestion(spec.baseline, names)}")
    for method in specs:
        info = MethodInfo(method.name, method.model_size)
        if method.generator is not None:
            found.append(_generated(spec, method, info, dialogues, store, progress))
            continue
        folder = Path(str(method.clips)).absolute()  # workers on other machines have another current folder
        matched = match_clips(folder, [dialogue.id for dialogue in everything])
        matched = replace(
            matched,
            found={name: path for name, path in matched.found.items() if name in references},
            missing=tuple(name for name in matched.missing if name in references),
        )
        if unmatched := matched.describe():
            say(f"{method.name} ({folder}): {unmatched}")
        found.append(_Method(info, matched.found, folder, matched.extra))
    return tuple(found)


def _generated(
    spec: RunSpec,
    method: MethodSpec,
    info: MethodInfo,
    dialogues: Sequence[Dialogue],
    store: RunStore,
    progress: Progress,
) -> _Method:
    """Render what is not there yet, one clip after another: a timed generator has the machine for itself."""
    name = str(method.generator)
    folder = (store.root / "clips" / method.name).absolute()
    paths = {dialogue.id: folder / f"{dialogue.id}.mp4" for dialogue in dialogues}
    with Host(name, method.options, {"device": spec.device}, timeout_s=spec.generator_timeout_s) as host:
        loaded = host.load()
        identity = loaded.identity
        keys = {dialogue.id: render_key(identity, method.name, dialogue, spec.seed) for dialogue in dialogues}
        done = store.rows()
        todo = [dialogue for dialogue in dialogues if not is_rendered(done.get(keys[dialogue.id]), paths[dialogue.id])]
        for _ in range(spec.warmups if todo else 0):
            # what fails here fails again below, where it becomes a row or stops the run
            with contextlib.suppress(LtEvalError):
                warm_up_in(host, todo[0], folder / ".warm-up.mp4", seed=spec.seed)
        for number, dialogue in enumerate(todo, 1):
            row = render_in(
                host, identity, spec.dataset.name, method.name, dialogue, paths[dialogue.id], seed=spec.seed
            )
            store.append([row], {})
            progress("generate", number, len(todo), f"{method.name}/{dialogue.id}")
    made = store.rows()
    clips = {i: path for i, path in paths.items() if made[keys[i]].failure is None}
    notes = [f"{method.name}: {note}" for note in loaded.footnotes]
    if any(made[key].details.get("streams") is False for key in keys.values()):
        notes.append(
            f"{method.name} does not stream: its first frame comes with its last, and Latency is its whole time."
        )
    return _Method(info, clips, folder, rendered=tuple(keys.values()), notes=tuple(notes))


def _tasks(
    spec: RunSpec, dialogues: Sequence[Dialogue], plans: Sequence[MetricPlan], methods: Sequence[_Method]
) -> list[ClipTask]:
    tasks: list[ClipTask] = []
    for method in methods if plans else ():
        for dialogue in dialogues:
            path = method.clips.get(dialogue.id)
            absent = "" if path is not None else absent_message(method.info.name, dialogue, method.folder)
            tasks.append(
                plan_clip(
                    spec.dataset.name,
                    method.info.name,
                    dialogue,
                    path if path is not None else method.folder / f"{dialogue.id}.mp4",
                    spec.media,
                    plans,
                    absent=absent,
                )
            )
    return tasks


def _footnotes(spec: RunSpec, plans: Sequence[MetricPlan], rows: Sequence[Row]) -> tuple[str, ...]:
    media = spec.media
    rate = f"resampled to {media.fps:g} frames/s" if media.fps is not None else "at each file's own frame rate"
    size = f"{media.fit} to {media.size}x{media.size}" if media.size else "own picture size"
    first = "frame 0 left out" if media.skip_first_frame else "frame 0 counted"
    notes = [f"Every clip is read alike: {rate}, {size}, {first}, decoded by {media.decoder}."]
    return (*notes, *metric_notes(plans, rows))


def _manifest(
    spec: RunSpec,
    dataset: Dataset,
    dialogues: Sequence[Dialogue],
    plans: Sequence[MetricPlan],
    methods: Sequence[_Method],
    out: Path,
) -> dict[str, Any]:
    path = out / "manifest.json"
    sessions = read_json(path).get("sessions", []) if path.is_file() else []
    return {
        "format": 1,
        "protocol": spec.protocol,
        "spec": spec.to_json(),
        "dataset": {"name": spec.dataset.name, "version": dataset.version, "samples": [d.id for d in dialogues]},
        "metrics": [_metric_record(plan) for plan in plans],
        "methods": [
            {"name": m.info.name, "folder": str(m.folder), "clips": len(m.clips), "unmatched_files": list(m.extra)}
            for m in methods
        ],
        "sessions": [*sessions, provenance.describe()],
    }


def _metric_record(plan: MetricPlan) -> dict[str, Any]:
    metric = load_metric(plan)
    return {
        "name": plan.name,
        "options": json.loads(plan.options),
        "offered": json.loads(plan.offered),
        "hash": plan.fingerprint,
        "how": list(metric.footnotes) if isinstance(metric, HasFootnotes) else [],
    }
