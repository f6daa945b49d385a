"""A bench from beginning to end: load, warm up, timed runs, stages, many sessions; rows kept as they come.

    results/bench-X/
        manifest.json   what was asked and of which generator, on which hardware, with what settings
        rows.jsonl      one line a timed run: its figures and arrival times, or the reason why there are none
        bench.json      the figures, as printed

Another bench into the same folder adds rows and replaces the other two files.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lt_eval import provenance, stats
from lt_eval.bench import load, work
from lt_eval.bench.figures import figures_of, means, pooled
from lt_eval.bench.host import DEFAULT_TIMEOUT_S, Host, Loaded
from lt_eval.bench.work import Drive, Stages, TimedRun
from lt_eval.errors import SpecError, UnscorableError, reason_of
from lt_eval.records import Failure, Row
from lt_eval.store import RunStore, key_of, write_json

Progress = Callable[[str, int, int, str], None]

METRIC = "bench"
MOST_STAGE_RUNS = 5


@dataclass(frozen=True)
class LoadSpec:
    """How many sessions are put on the machine.

    Attributes:
        rate: sessions that arrive a second; None searches for the most that it sustains at once.
        arrivals: evenly, or as independent visitors arrive.
        seconds: for which sessions arrive, or after which the search asks no further question.
        most: of sessions at once in the search.
        buffer_s: of the viewers: seconds of video that must be there before they start.
    """

    rate: float | None = None
    arrivals: load.Arrivals = "poisson"
    seconds: float = 60.0
    most: int = 64
    buffer_s: float = 0.5


@dataclass(frozen=True)
class BenchSpec:
    """What is measured.

    Attributes:
        generator: registered name or module:Class.
        options: its keyword arguments.
        drive: what it is given in every run.
        runs: timed.
        warmups: before them; each reaches the sixth block.
        playback_fps: at which the video is played; None is the generator's own rate.
        buffer_s: seconds of video that the simulated viewer waits for.
        stages: also time denoising and decoding apart, where the generator offers it.
        load: put many sessions on the machine afterwards; None does not.
        device: "auto", "cpu", "cuda" ...; passed to the generator where it takes one.
        timeout_s: longest wait for a sign of life.
    """

    generator: str
    options: Mapping[str, Any] = field(default_factory=dict)
    drive: Drive = field(default_factory=Drive)
    runs: int = 10
    warmups: int = 1
    playback_fps: float | None = None
    buffer_s: float = 0.0
    stages: bool = True
    load: LoadSpec | None = None
    device: str = "auto"
    timeout_s: float = DEFAULT_TIMEOUT_S


@dataclass(frozen=True)
class Outcome:
    """The figures as JSON types, and how many runs failed."""

    result: Mapping[str, Any]
    failed: int


def check(spec: BenchSpec) -> None:
    """Refuse what cannot be measured.

    Raises:
        SpecError: a number out of its range.
    """
    drive = spec.drive
    lower: Sequence[tuple[str, float, float]] = (
        ("--seconds", drive.seconds, 0.1),
        ("--size", drive.size, 16),
        ("--runs", spec.runs, 1),
        ("--warmup", spec.warmups, 0),
        ("--buffer", spec.buffer_s, 0),
        ("--generator-timeout", spec.timeout_s, 0.001),
        ("--audio-chunk", drive.chunk_s if drive.chunk_s is not None else 1.0, 0.001),
        ("--playback-fps", spec.playback_fps if spec.playback_fps is not None else 1.0, 0.001),
        ("--load-seconds", spec.load.seconds if spec.load else 1.0, 0.1),
        ("--most-sessions", spec.load.most if spec.load else 1, 1),
    )
    for name, value, least in lower:
        if not value >= least:
            raise SpecError(f"{name} {value:g}: it must be at least {least:g}.")


def run(spec: BenchSpec, out: Path, *, progress: Progress, say: Callable[[str], None]) -> Outcome:
    """Measure a generator, and leave what was found in `out`.

    Args:
        spec: what to measure.
        out: the folder; rows of earlier benches there are kept.
        progress: told of every finished run.
        say: told what a person should know.

    Raises:
        UsageError: there is no such generator, it cannot be made, or the folder cannot be written.
    """
    check(spec)
    with (
        RunStore(out) as store,
        Host(spec.generator, spec.options, {"device": spec.device}, timeout_s=spec.timeout_s) as host,
    ):
        loaded = host.load()
        manifest = _manifest(spec, loaded)
        store.write_manifest(manifest)
        reached = _warm_up(spec, host, progress, say)
        rows, runs = _timed(spec, host, loaded, store, manifest["created"], progress)
        parts = _stages(spec, host, loaded, progress, say)
        crowd = _load(spec, host, loaded, progress, say)
        result = _result(spec, loaded, manifest, rows, runs, reached, parts, crowd)
        size = result["resolution"]
        store.write_manifest({**manifest, "resolution": size, "gpus": result["gpus"]})
        write_json(out / "bench.json", result)
    return Outcome(result, sum(row.failure is not None for row in rows))


def _playback(spec: BenchSpec, loaded: Loaded) -> float:
    return loaded.fps if spec.playback_fps is None else spec.playback_fps


def _manifest(spec: BenchSpec, loaded: Loaded) -> dict[str, Any]:
    return {
        "format": 1,
        "protocol": METRIC,
        "spec": dataclasses.asdict(spec),
        "generator": {"identity": loaded.identity, "fps": loaded.fps, "sample_rate": loaded.sample_rate},
        "settings": {**({"device": loaded.device} if loaded.device else {}), **loaded.settings},
        "playback_fps": _playback(spec, loaded),
        **provenance.describe(),
        "created": datetime.now(UTC).isoformat(timespec="microseconds"),
    }


def _warm_up(spec: BenchSpec, host: Host, progress: Progress, say: Callable[[str], None]) -> work.Warmed | None:
    """Return the fewest blocks that a warm-up reached and the first opening; None where none was or the last failed."""
    reached: work.Warmed | None = None
    for number in range(1, spec.warmups + 1):
        try:
            one: work.Warmed = host.call(work.warm_up, spec.drive, number, what="was warming up")
            reached = one if reached is None else work.Warmed(min(reached.blocks, one.blocks), reached.opened_s)
        except UnscorableError as error:
            say(f"warm-up {number} failed: {error}")
            reached = None
        progress("warm-up", number, spec.warmups, "")
    return reached


def _timed(
    spec: BenchSpec, host: Host, loaded: Loaded, store: RunStore, created: str, progress: Progress
) -> tuple[list[Row], list[TimedRun]]:
    rows: list[Row] = []
    runs: list[TimedRun] = []
    for number in range(spec.runs):
        key = key_of("bench-1", created, loaded.identity, number)
        row = Row(METRIC, spec.generator, f"run{number:03d}", 0, METRIC, key)
        try:
            one: TimedRun = host.call(work.timed_run, spec.drive, number, what=f"was generating run {number}")
            values = figures_of(one.timeline, _playback(spec, loaded), spec.buffer_s, loaded.block_frames, one.energy)
            row = dataclasses.replace(row, values=values, details=_details(one))
            runs.append(one)
        except UnscorableError as error:
            row = dataclasses.replace(row, failure=Failure(reason_of(error), str(error)))
        store.append([row], {})
        rows.append(row)
        progress("bench", number + 1, spec.runs, "")
    return rows, runs


def _details(one: TimedRun) -> dict[str, Any]:
    timeline = dataclasses.asdict(one.timeline)
    timeline["arrivals"] = [[round(a.at_s, 6), a.frames, round(a.heard_s, 6)] for a in one.timeline.arrivals]
    timeline["pulls"] = len(one.timeline.pulls)
    return {**timeline, "size": list(one.timeline.size), "energy": dict(one.energy), "memory": dict(one.memory)}


def _stages(
    spec: BenchSpec, host: Host, loaded: Loaded, progress: Progress, say: Callable[[str], None]
) -> dict[str, Any] | None:
    """Return the mean of each stage's figures over a few runs, the first left out as a warm-up."""
    if not (spec.stages and loaded.has_stages):
        return None
    count = min(spec.runs, MOST_STAGE_RUNS)
    found: list[Stages] = []
    for number in range(-1, count):
        try:
            one = host.call(work.stages, spec.drive, number, what="was running its stages apart")
        except UnscorableError as error:
            say(f"denoising and decoding apart: {error}")
            return {"failure": str(error)}
        if number >= 0:
            found.append(one)
        progress("stages", number + 1, count, "")
    return {name.name: _interval([getattr(one, name.name) for one in found]) for name in dataclasses.fields(Stages)}


def _most(values: Iterable[float | None]) -> float | None:
    """Return the largest; a failed run before the last one may have taken a process with it, and its peak."""
    return max((value for value in values if value is not None), default=None)


def _interval(values: Sequence[float | None]) -> dict[str, Any] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    mean, low, high = stats.mean_interval(known)
    return {"mean": mean, "low": None if low is None else max(0.0, low), "high": high, "n": len(known)}


def _load(
    spec: BenchSpec, host: Host, loaded: Loaded, progress: Progress, say: Callable[[str], None]
) -> dict[str, Any] | None:
    if spec.load is None:
        return None
    asked = spec.load
    fps = _playback(spec, loaded)
    deadline = time.monotonic() + asked.seconds

    def serve(starts: Sequence[float]) -> list[load.Served]:
        served: list[load.Served] = host.call(
            load.serve, spec.drive, list(starts), fps, asked.buffer_s, what=f"was serving {len(starts)} sessions"
        )
        return served

    kept = {"seconds_each": spec.drive.seconds, "buffer_s": asked.buffer_s, "playback_fps": fps}
    if asked.rate is not None:
        starts = load.start_times(asked.rate, asked.seconds, asked.arrivals, spec.drive.seed)
        try:
            served = serve(starts)
        except UnscorableError as error:
            return {**kept, "failure": str(error)}
        return {**kept, "rate": asked.rate, "arrivals": asked.arrivals, **load.summary_of(served)}

    asked_for: dict[int, Mapping[str, Any]] = {}

    def sustains(number: int) -> bool:
        try:
            served = serve(load.staggered(number, min(1.0, spec.drive.seconds / 2), spec.drive.seed))
        except UnscorableError as error:
            say(f"{number} sessions at once: {error}")
            asked_for[number] = {"failure": str(error)}
            return False
        asked_for[number] = load.summary_of(served)
        progress("load", len(asked_for), len(asked_for), f"{number} at once")
        return all(one.sustained for one in served)

    most, whole = load.find_most(sustains, asked.most, lambda: time.monotonic() < deadline)
    tried: Mapping[str, Any] = {str(number): found for number, found in sorted(asked_for.items())}
    return {**kept, "sustained_sessions": most, "search_finished": whole, "tried": tried}


def _result(
    spec: BenchSpec,
    loaded: Loaded,
    manifest: Mapping[str, Any],
    rows: Sequence[Row],
    runs: Sequence[TimedRun],
    reached: work.Warmed | None,
    parts: Mapping[str, Any] | None,
    crowd: Mapping[str, Any] | None,
) -> dict[str, Any]:
    timelines = [one.timeline for one in runs]
    streams = all(timeline.streams for timeline in timelines) if timelines else None
    memory = {name: _most(one.memory[name] for one in runs) for name in ("host_mib", "gpu_mib")}
    failures = [f"{row.failure.reason}: {row.failure.message}" for row in rows if row.failure]
    return {
        "format": 1,
        "generator": spec.generator,
        "options": dict(spec.options),
        "created": manifest["created"],
        "hardware": manifest["hardware"],
        "gpus": sorted({name for one in runs for name in one.gpus}),
        "settings": dict(manifest["settings"]),
        "fps": loaded.fps,
        "playback_fps": _playback(spec, loaded),
        "resolution": list(timelines[0].size) if timelines else None,
        "seconds": spec.drive.seconds,
        "pace": spec.drive.pace,
        "buffer_s": spec.buffer_s,
        "block_frames": list(loaded.block_frames),
        "streams": streams,
        "runs": len(rows),
        "failed": len(failures),
        "failures": list(dict.fromkeys(failures))[:5],
        "warm_up_blocks": reached.blocks if reached else None,
        "warm_up_enough": reached is not None and reached.blocks >= work.WARM_CHUNKS,
        "load_s": loaded.load_s,
        "first_open_s": reached.opened_s if reached else None,
        "memory": memory,
        "figures": means([row.values for row in rows if not row.failure], seed=spec.drive.seed),
        "pooled": pooled(timelines, loaded.block_frames),
        "stages": parts,
        "load": crowd,
    }
