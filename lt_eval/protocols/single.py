"""The single-round protocol: one portrait, one audio clip, one video. Table 1 of the paper, read from top to bottom.

Ground truth is measured like any other method, once; every method is compared with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lt_eval import provenance
from lt_eval.datasets.folder import match_clips
from lt_eval.errors import DatasetError, SpecError, StoreError
from lt_eval.interfaces import HasFootnotes, HasMethods
from lt_eval.measure import (
    ClipTask,
    MetricPlan,
    absent_message,
    load_metric,
    measure,
    plan_clip,
    plan_metric,
    remaining,
)
from lt_eval.records import GROUND_TRUTH, Dialogue, MethodInfo, Row, Summary
from lt_eval.registry import create, load, suggestion, targets
from lt_eval.render import METRIC as RENDER
from lt_eval.render import render_clip, render_key, render_row
from lt_eval.spec import MethodSpec, RunSpec
from lt_eval.store import RunStore, key_of, read_json
from lt_eval.summarise import summarise

if TYPE_CHECKING:
    from lt_eval.interfaces import Dataset, Generator

Progress = Callable[[str, int, int, str], None]
"""Told (stage, done, in all, what was done last)."""


@dataclass(frozen=True)
class Outcome:
    """A finished run: its table, and the rows that failed."""

    summary: Summary
    failures: tuple[Row, ...]


@dataclass(frozen=True)
class _Method:
    info: MethodInfo
    clips: Mapping[str, Path]
    folder: Path
    extra: tuple[str, ...] = ()


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
    dataset = cast("Dataset", create("datasets", spec.dataset.name, spec.dataset.options))
    plans = tuple(plan_metric(metric, {"weights": spec.weights, "device": spec.device}) for metric in spec.metrics)
    dialogues = tuple(dataset[i] for i in range(min(len(dataset), spec.limit or len(dataset))))
    if not dialogues:
        raise DatasetError(f"data set {spec.dataset.name!r} holds no sample; there is nothing to measure.")
    with RunStore(out) as store:
        _refuse_other_dataset(out, spec.dataset.name, dataset.version)
        methods = _methods(spec, dataset, dialogues, store, progress, say)
        store.write_manifest(_manifest(spec, dataset, dialogues, plans, methods, out))
        tasks = _tasks(spec, dialogues, plans, methods)
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
        rendered = _rendered(rows, methods, dialogues)
        summary = summarise(
            spec.dataset.name,
            tuple(method.info for method in methods),
            tuple(dialogue.id for dialogue in dialogues),
            plans,
            [*wanted.values(), *rendered],
            store.features_path,
            baseline=spec.baseline,
            seed=spec.seed,
            footnotes=_footnotes(spec, plans),
        )
        store.write_summary(summary)
        progress("summarise", 1, 1, "")
    return Outcome(summary, tuple(row for row in [*wanted.values(), *rendered] if row.failure))


def _resolved(spec: RunSpec) -> RunSpec:
    if not spec.dataset.name:
        names = ", ".join(targets("datasets"))
        raise SpecError(
            f"No data set was named. Use --dataset NAME ({names}), or --reference FOLDER for your own clips."
        )
    if spec.weights != "auto":
        return spec
    return replace(spec, weights="builtin" if spec.dataset.name == "demo" else "official")


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
    dialogues: Sequence[Dialogue],
    store: RunStore,
    progress: Progress,
    say: Callable[[str], None],
) -> tuple[_Method, ...]:
    """Return the rows of the table, ground truth first; generators make their clips here."""
    references = {d.id: d.turns[0].reference for d in dialogues}
    known = {name: path.absolute() for name, path in references.items() if path is not None}
    # a data set of recordings alone has no ground truth: a row of failures would say something is wrong with it
    found = [_Method(MethodInfo(GROUND_TRUTH), known, Path(spec.dataset.name))] if known else []
    brought = dataset.methods if isinstance(dataset, HasMethods) else {}
    specs = [MethodSpec(name, clips=str(folder)) for name, folder in brought.items()] + list(spec.methods)
    names = [method.name for method in specs]
    for name in names:
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
        matched = match_clips(folder, [dataset[i].id for i in range(len(dataset))])
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
    generator = cast("Generator", create("generators", name, method.options, offered={"device": spec.device}))
    module = load("generators", name).__module__
    fingerprint = key_of(name, module, method.options)
    folder = (store.root / "clips" / method.name).absolute()
    done = store.rows()
    todo = []
    for dialogue in dialogues:
        row = done.get(render_key(fingerprint, method.name, dialogue, spec.seed))
        if row is None or row.failure is not None or not Path(row.clip).is_file():
            todo.append(dialogue)
    if todo:
        warm_up = folder / ".warm-up.mp4"
        for _ in range(spec.warmups):
            render_clip(generator, todo[0], warm_up, seed=spec.seed)
        warm_up.unlink(missing_ok=True)
    for number, dialogue in enumerate(todo, 1):
        path = folder / f"{dialogue.id}.mp4"
        row = render_row(generator, fingerprint, spec.dataset.name, method.name, dialogue, path, seed=spec.seed)
        store.append([row], {})
        progress("generate", number, len(todo), f"{method.name}/{dialogue.id}")
    clips = {d.id: folder / f"{d.id}.mp4" for d in dialogues if (folder / f"{d.id}.mp4").is_file()}
    return _Method(info, clips, folder)


def _tasks(
    spec: RunSpec, dialogues: Sequence[Dialogue], plans: Sequence[MetricPlan], methods: Sequence[_Method]
) -> list[ClipTask]:
    tasks = []
    for method in methods:
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


def _rendered(rows: Mapping[str, Row], methods: Sequence[_Method], dialogues: Sequence[Dialogue]) -> list[Row]:
    wanted = {(method.info.name, dialogue.id) for method in methods for dialogue in dialogues}
    newest = {(row.method, row.sample): row for row in rows.values() if row.metric == RENDER}
    return [newest[pair] for pair in sorted(wanted & set(newest))]


def _footnotes(spec: RunSpec, plans: Sequence[MetricPlan]) -> tuple[str, ...]:
    media = spec.media
    rate = f"resampled to {media.fps:g} frames/s" if media.fps is not None else "at each file's own frame rate"
    size = f"{media.fit} to {media.size}x{media.size}" if media.size else "own picture size"
    first = "frame 0 left out" if media.skip_first_frame else "frame 0 counted"
    notes = [f"Every clip is read alike: {rate}, {size}, {first}, decoded by {media.decoder}."]
    for plan in plans:
        metric = load_metric(plan)
        if isinstance(metric, HasFootnotes):
            notes.extend(metric.footnotes)
    return tuple(notes)


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
        "metrics": [
            {"name": p.name, "options": json.loads(p.options), "offered": json.loads(p.offered), "hash": p.fingerprint}
            for p in plans
        ],
        "methods": [
            {"name": m.info.name, "folder": str(m.folder), "clips": len(m.clips), "unmatched_files": list(m.extra)}
            for m in methods
        ],
        "sessions": [*sessions, provenance.describe()],
    }
