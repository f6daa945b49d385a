"""Identity over minutes: what five minutes of one stream do to a face, by half-minute, in several attention windows.

    people -> true clips drawn -> each configuration streams each person -> windows of half a minute on the disk
    windows -> identity, appearance, FID, Sync, as any other clip -> by window: mean over people, drift from the first

The paper's section 4 argues for anchor-heavy identity sinks (3 sink and 2 rolling blocks) with no table; this is it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_eval import provenance
from lt_eval.bench.host import Host
from lt_eval.errors import SpecError, StoreError
from lt_eval.measure import ClipTask, MetricPlan, measure, metric_notes, plan_clip, plan_metric, remaining
from lt_eval.protocols.longform_streams import DATASET, Person, Tell, draw_person, stream_person
from lt_eval.protocols.longform_windows import Window, summarise_windows
from lt_eval.records import GROUND_TRUTH, MediaPolicy, Row
from lt_eval.report.longform import FILE, write_result
from lt_eval.spec import ExecutionPolicy, MetricSpec
from lt_eval.store import RunStore, read_json

if TYPE_CHECKING:
    from lt_eval.bench.host import Loaded
    from lt_eval.protocols.longform_spec import LongSpec

Progress = Callable[[str, int, int, str], None]
"""Told (stage, done, in all, what was done last)."""

DEFAULT_SIZE_PX = 256


@dataclass(frozen=True)
class Outcome:
    """The windows in order, and the rows that failed."""

    windows: tuple[Window, ...]
    failures: tuple[Row, ...]


def run(spec: LongSpec, out: Path, *, progress: Progress, say: Callable[[str], None]) -> Outcome:
    """Run, or continue, a comparison over minutes in the folder `out`.

    Args:
        spec: what to run.
        out: the run folder; finished streams and rows there are kept.
        progress: told how far it is.
        say: told what a user should know.

    Raises:
        UsageError: the spec, the generator, the weights or the folder cannot be used.
    """
    plans = _plans(spec)
    _refuse_other_run(out)
    with RunStore(out) as store:
        loaded, people, streamed = _stream_all(spec, store, progress, say)
        notes = _notes(spec, loaded, people)
        manifest = _manifest(out, spec, plans, people, loaded)
        store.write_manifest(manifest)
        tasks = _tasks(spec, store, people, plans, streamed)
        todo = remaining(tasks, store.rows())
        if len(todo) < len(tasks):
            say(f"{len(tasks) - len(todo)} of {len(tasks)} windows were measured before and are kept.")
        measure(
            todo,
            ExecutionPolicy(threads=spec.threads),
            keep=lambda result: store.append(result.rows, result.features),
            progress=lambda done, total, what: progress("measure", done, total, what),
        )
        rows = store.rows()
        wanted = [rows[key] for task in tasks for key in task.keys]
        windows = summarise_windows(
            spec,
            people[0].bounds,
            people[0].fps,
            plans,
            wanted,
            store.features_path,
            (*notes, *metric_notes(plans, wanted)),
        )
        failed = [row for row in (*streamed.values(), *wanted) if row.failure]
        write_result(out, manifest, windows, failed)
    return Outcome(windows, tuple(failed))


def _refuse_other_run(out: Path) -> None:
    path = out / "manifest.json"
    if path.is_file() and (held := read_json(path).get("protocol")) != DATASET:
        raise StoreError(f"{out}: holds a run of protocol {held!r}. Choose another --out, or delete that folder.")


# What is measured -----------------------------------------------------------------------------------------------------


def _plans(spec: LongSpec) -> tuple[MetricPlan, ...]:
    """Make all metrics, so that missing weights are told before minutes are streamed."""
    # Stated boxes, those of the true clip: a detector would see no face in what has drifted, and drop what counts most.
    least = max(20, min(100, round(spec.window_s * 25) // 2))
    metrics = (
        MetricSpec("identity", {"faces": "manifest"}),
        MetricSpec("appearance", {"faces": "manifest"}),
        MetricSpec("fid", {"kid": False, "infinity": False}),
        MetricSpec("sync", {"faces": "manifest", "min_track": least, "min_face_px": 0}),
    )
    offered = {"weights": spec.weights, "device": spec.device, "seed": spec.seed}
    return tuple(plan_metric(metric, offered) for metric in metrics)


def _tasks(
    spec: LongSpec,
    store: RunStore,
    people: Sequence[Person],
    plans: Sequence[MetricPlan],
    streamed: Mapping[tuple[str, int], Row],
) -> list[ClipTask]:
    clips = store.root.absolute() / "clips"
    tasks = []
    for method in (GROUND_TRUTH, *spec.methods):
        for person in people:
            row = streamed.get((method, person.seed))
            absent = f"{row.failure.reason}: {row.failure.message}" if row is not None and row.failure else ""
            for place in range(spec.windows):
                dialogue, path = person.dialogue(clips / GROUND_TRUTH, place), person.window(clips / method, place)
                policy = MediaPolicy(fps=person.fps)
                tasks.append(plan_clip(DATASET, method, dialogue, path, policy, plans, absent=absent))
    return tasks


# Streams --------------------------------------------------------------------------------------------------------------


def _stream_all(
    spec: LongSpec, store: RunStore, progress: Progress, say: Callable[[str], None]
) -> tuple[dict[str, Loaded], list[Person], dict[tuple[str, int], Row]]:
    """Make what clips are not there yet: true ones first, then one configuration after another."""
    loaded: dict[str, Loaded] = {}
    people: list[Person] = []
    streamed: dict[tuple[str, int], Row] = {}
    total = len(spec.methods) * len(spec.seeds)
    for method, options in spec.methods.items():
        with Host(spec.generator, options, {"device": spec.device}, timeout_s=spec.generator_timeout_s) as host:
            one = loaded[method] = host.load()
            (store.root / FILE).unlink(missing_ok=True)  # of settings that may be others
            people = people or _people(spec, store, one, progress)
            if one.fps != people[0].fps:
                raise SpecError(
                    f"{method!r} makes {one.fps:g} frames a second and {next(iter(loaded))!r} {people[0].fps:g}; "
                    "windows of a run are counted in frames. Give configurations of one rate, or a run of its own."
                )
            for person in people:
                tell = _teller(progress, "stream", len(streamed), total, f"{method}: ")
                row = stream_person(store, host, one.identity, method, person, spec.seed, tell)
                streamed[method, person.seed] = row
                progress("stream", len(streamed), total, f"{method}: {person.name}")
                if row.failure:
                    say(f"{method}: {row.failure.reason}: {row.failure.message}")
    return loaded, people, streamed


def _people(spec: LongSpec, store: RunStore, loaded: Loaded, progress: Progress) -> list[Person]:
    said = loaded.settings.get("size")
    size = spec.size or (said if isinstance(said, int) else DEFAULT_SIZE_PX)
    bounds, total = spec.bounds(loaded.fps), len(spec.seeds)
    found: list[Person] = []
    for seed in spec.seeds:
        tell = _teller(progress, "draw", len(found), total)
        found.append(draw_person(store, seed, bounds, spec.seconds, size, loaded.fps, tell))
        progress("draw", len(found), total, found[-1].name)
    return found


def _teller(progress: Progress, stage: str, done: int, total: int, prefix: str = "") -> Tell:
    return lambda what: progress(stage, done, total, prefix + what)


# What a reader must know ----------------------------------------------------------------------------------------------


def _notes(spec: LongSpec, loaded: Mapping[str, Loaded], people: Sequence[Person]) -> tuple[str, ...]:
    notes = [
        f"Streams of {spec.seconds:g} s of {len(people)} procedural {'people' if len(people) > 1 else 'person'} (seeds "
        f"{people[0].seed} to {people[-1].seed}), each one session without a break; windows of {spec.window_s:g} s. "
        "Values are means over people, with 95 % intervals by person where there are several; FID pools their frames.",
        "Faces are looked for where the true clip has them: what leaves that place counts as another face.",
    ]
    by_note: dict[str, list[str]] = {}
    for method, one in loaded.items():
        for note in one.footnotes:
            by_note.setdefault(note, []).append(method)
    notes += [f"{', '.join(methods)}: {note}" for note, methods in by_note.items()]
    return tuple(notes)


def _manifest(
    out: Path, spec: LongSpec, plans: Sequence[MetricPlan], people: Sequence[Person], loaded: Mapping[str, Loaded]
) -> dict[str, Any]:
    path = out / "manifest.json"
    sessions = read_json(path).get("sessions", []) if path.is_file() else []
    return {
        "format": 1,
        "protocol": DATASET,
        "spec": dataclasses.asdict(spec),
        "people": [person.name for person in people],
        "metrics": [{"name": plan.name, "options": plan.options, "hash": plan.fingerprint} for plan in plans],
        "methods": [
            {"name": name, "options": dict(spec.methods[name]), "settings": dict(one.settings)}
            for name, one in loaded.items()
        ],
        "sessions": [*sessions, provenance.describe()],
    }
