"""Runs to figures: what is pooled and what is a mean, whose energy is counted, which run of a half warms up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lt_eval.bench import run, work
from lt_eval.bench.figures import figures_of, pooled
from lt_eval.bench.timing import Arrival, Timeline, listen
from lt_eval.records import Frames
from lt_eval.testing import toy_portrait, toy_speech
from tests.bench.odd import Odd

LONG = Timeline(
    tuple(Arrival(at_s, 4, 2.0) for at_s in (1.0, 2.0, 4.0)), (), 0.1, 9.0, audio_s=2.0, fps=25.0, size=(16, 16)
)
SHORT = replace(LONG, arrivals=(Arrival(1.0, 6, 2.0), Arrival(2.0, 6, 2.0)), ended_s=9.0)


def test_pooled_throughput_is_all_frames_over_all_wall_time_to_the_last_frames() -> None:
    """12 frames in 4 s and 12 in 2 s are 24 in 6 s, not the mean of 3 and 6; what comes after a last frame is none."""
    assert pooled([LONG, SHORT], ())["throughput_fps"] == 4.0
    assert pooled([LONG, SHORT], ())["gaps"] == 3 and pooled([LONG, SHORT], ())["gap_p50_s"] == 1.0
    assert pooled([], ())["throughput_fps"] is None


def test_gaps_are_of_runs_that_stream() -> None:
    assert pooled([LONG, replace(SHORT, streams=False)], ())["gaps"] == 2
    assert "gap_p50_s" not in figures_of(replace(SHORT, streams=False), 25.0, 0.0, (), {})


def test_energy_is_of_everything_that_can_be_read_and_a_frame() -> None:
    found = figures_of(LONG, 25.0, 0.0, (), {"cpu_j": 24.0, "gpu_j": 36.0})
    assert found["energy_j_per_frame"] == 5.0
    assert figures_of(LONG, 25.0, 0.0, (), {"cpu_j": None, "gpu_j": 36.0})["energy_j_per_frame"] == 3.0
    assert "energy_j_per_frame" not in figures_of(LONG, 25.0, 0.0, (), {"cpu_j": None, "gpu_j": None})


def test_the_meter_runs_while_the_generator_does(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []

    class Meter:
        def __init__(self) -> None:
            happened.append("begin")

        def joules(self) -> dict[str, float | None]:
            happened.append("end")
            return {"cpu_j": 1.0}

    class Noting(Odd):
        @contextmanager
        def session(self, portrait: Frames, *, prompt: str = "", seed: int = 0) -> Iterator[Odd]:
            happened.append("session")
            yield self

    monkeypatch.setattr(work, "EnergyMeter", Meter)
    one = work.timed_run(Noting(at=-1), lambda _: None, work.Drive(0.2, 16, "noise"), 0)
    assert happened == ["begin", "session", "end"] and one.energy == {"cpu_j": 1.0}


def test_the_clock_starts_before_the_session_is_opened() -> None:
    """0.2 s to open, nothing afterwards: all of it is in the first frame's latency."""

    class Slow(Odd):
        @contextmanager
        def session(self, portrait: Frames, *, prompt: str = "", seed: int = 0) -> Iterator[Odd]:
            import time

            time.sleep(0.2)
            yield self

    timeline = listen(Slow(at=-1), toy_portrait(32), toy_speech(0.2))
    assert 0.2 <= timeline.opened_s <= timeline.arrivals[0].at_s


def test_peak_memory_is_the_most_of_all_runs_and_their_processes() -> None:
    assert run._most([300.0, None, 100.0]) == 300.0 and run._most([None]) is None


def test_the_first_run_of_each_half_is_a_warm_up() -> None:
    asked: list[int] = []

    def call(function: Any, drive: work.Drive, number: int, *, what: str) -> work.Stages:
        asked.append(number)
        return work.Stages(*(100.0 + number for _ in range(4)))

    host: Any = SimpleNamespace(call=call)
    loaded: Any = SimpleNamespace(has_stages=True)
    found = run._stages(run.BenchSpec("x", runs=3), host, loaded, lambda *_: None, lambda _: None)
    assert asked == [-1, 0, 1, 2] and found is not None
    assert found["denoise_fps"]["mean"] == pytest.approx(np.mean([100, 101, 102])) and found["denoise_fps"]["n"] == 3
