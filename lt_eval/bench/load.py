"""Many avatars on one machine: sessions that arrive at a rate, and how many at once it sustains without a freeze.

Every session hears its audio in real time and is watched by a viewer with a start buffer (`viewing.watch`). A session
is sustained if its viewer sees no freeze and it neither failed nor was cut off.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lt_eval.bench import viewing
from lt_eval.bench.timing import Timeline, listen
from lt_eval.bench.work import Drive, Tell, block_frames, conditions_of
from lt_eval.errors import SpecError

if TYPE_CHECKING:
    from lt_eval.bench.conditions import Conditions
    from lt_eval.interfaces import Generator

Arrivals = Literal["poisson", "fixed"]

OVERTIME = 2.0
"""A session may take so many times the length of its audio beyond it before it is cut off."""

_LOOK_EVERY_S = 0.05
_LEAVE_S = 5.0


@dataclass(frozen=True)
class Served:
    """One session of many.

    Attributes:
        start_s: when it arrived.
        end_s: when it was over.
        first_frame_s: since its audio was said, `viewing.first_frame_s`; None where it has no frame.
        stalls: freezes that its viewer saw.
        stall_s: seconds of them.
        failure: why it failed or was cut off; empty where it did neither.
    """

    start_s: float
    end_s: float
    first_frame_s: float | None
    stalls: int
    stall_s: float
    failure: str

    @property
    def sustained(self) -> bool:
        """True if a viewer saw all of it without a freeze."""
        return not self.failure and self.stalls == 0


def start_times(rate: float, seconds: float, arrivals: Arrivals, seed: int) -> list[float]:
    """Return when sessions arrive within `seconds`, at `rate` a second: evenly, or as independent visitors do."""
    if not rate > 0:
        raise SpecError(f"--load {rate:g}: sessions must arrive at a rate above 0 a second.")
    if arrivals == "fixed":
        return [index / rate for index in range(int(np.ceil(seconds * rate)))]
    rng = np.random.default_rng(seed)
    times: list[float] = []
    at_s = float(rng.exponential(1 / rate))
    while at_s < seconds:
        times.append(at_s)
        at_s += float(rng.exponential(1 / rate))
    return times


def most_at_once(served: Sequence[Served]) -> int:
    """Return the largest number of sessions that ran at one time; one that ends as another starts is not counted."""
    events = sorted([(one.end_s, -1) for one in served] + [(one.start_s, 1) for one in served])
    return int(max(np.cumsum([change for _, change in events]), default=0))


class _Crowd:
    """The sessions of one measurement, each on a thread of its own. None outlives `close`, or is counted as failed."""

    def __init__(
        self, generator: Generator, drive: Drive, playback_fps: float, buffer_s: float, given: Sequence[Conditions]
    ) -> None:
        self._generator, self._drive, self._fps, self._buffer_s = generator, drive, playback_fps, buffer_s
        self._given = given
        self._begin = time.perf_counter()
        self._stop = threading.Event()
        self.chunks = 0
        self.served: dict[int, Served] = {}
        self.threads: list[threading.Thread] = []

    def start(self, starts: Sequence[float]) -> None:
        """Start a thread for every session; it waits for its moment."""
        self._begin = time.perf_counter()
        for index, start_s in enumerate(starts):
            thread = threading.Thread(target=self._session, args=(index, start_s), name=f"session-{index}", daemon=True)
            self.threads.append(thread)
            thread.start()

    def _session(self, index: int, start_s: float) -> None:
        if self._stop.wait(max(0.0, self._begin + start_s - time.perf_counter())):
            return
        actual_s = time.perf_counter() - self._begin
        given = self._given[index]
        timeline, failure = None, ""
        try:
            timeline = listen(
                self._generator,
                given.portrait,
                given.audio,
                prompt=given.prompt,
                text=given.text,
                seed=given.seed,
                chunk_s=self._drive.chunk_s,
                pace="realtime",
                tell=self._tell,
                stop=self._stop,
            )
        except Exception as error:  # one session's failure is a figure, and must not end the others
            failure = f"{type(error).__name__}: {error}"
        if self._stop.is_set():
            failure = failure or "cut off: it fell too far behind its audio"
        self.served[index] = self._outcome(actual_s, time.perf_counter() - self._begin, timeline, failure)

    def _tell(self, _: str) -> None:
        self.chunks += 1

    def _outcome(self, start_s: float, end_s: float, timeline: Timeline | None, failure: str) -> Served:
        if timeline is None:
            return Served(start_s, end_s, None, 0, 0.0, failure)
        seen = viewing.watch(timeline.arrivals, self._fps, self._buffer_s)
        first_s = viewing.first_frame_s(timeline, block_frames(self._generator))
        return Served(start_s, end_s, first_s, seen.stalls, seen.stall_s, failure)

    def wait(self, until_s: float, tell: Tell) -> None:
        """Wait until all are over, at most until `until_s`; pass on signs of life of the sessions, not our own."""
        seen = -1
        while any(thread.is_alive() for thread in self.threads):
            now_s = time.perf_counter() - self._begin
            if now_s >= until_s:
                return
            if self.chunks != seen:
                seen = self.chunks
                tell(f"{len(self.served)} of {len(self.threads)} sessions over")
            time.sleep(_LOOK_EVERY_S)

    def close(self, starts: Sequence[float]) -> list[Served]:
        """Stop what still runs and return every session; one that does not stop in time is a failure."""
        self._stop.set()
        deadline = time.perf_counter() + _LEAVE_S
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.perf_counter()))
        end_s = time.perf_counter() - self._begin
        never = [Served(start_s, end_s, None, 0, 0.0, "did not stop when asked to") for start_s in starts]
        return [self.served.get(index, missing) for index, missing in enumerate(never)]


def serve(
    generator: Generator, tell: Tell, drive: Drive, starts: Sequence[float], playback_fps: float, buffer_s: float
) -> list[Served]:
    """Run one session for each start time, and return what became of each. Bounded in time.

    Args:
        generator: must allow several sessions at once, on threads.
        tell: is told of the sessions' signs of life.
        drive: what each is given; its pace is real time.
        starts: when each arrives, seconds from now.
        playback_fps: of the viewers.
        buffer_s: of the viewers.
    """
    given = []
    for index in range(len(starts)):
        given.append(conditions_of(drive, index, generator.sample_rate))
        tell("conditions")
    crowd = _Crowd(generator, replace(drive, pace="realtime"), playback_fps, buffer_s, given)
    crowd.start(starts)
    try:
        crowd.wait(max(starts, default=0.0) + drive.seconds * (1 + OVERTIME) + _LEAVE_S, tell)
    finally:
        served = crowd.close(starts)
    return served


def find_most(
    sustains: Callable[[int], bool], most: int, in_time: Callable[[], bool] = lambda: True
) -> tuple[int, bool]:
    """Return (largest number that is sustained, whether the search was brought to its end).

    Doubles until a number is not sustained, then halves the distance. `sustains` is asked once a number.

    Args:
        sustains: whether a number of sessions at once is.
        most: never asks for more; reaching it leaves the end open.
        in_time: whether there is time for another question.
    """
    held, broken, number = 0, most + 1, 1
    while broken - held > 1:
        if not in_time():
            return held, False
        if sustains(number):
            held = number
        else:
            broken = number
        number = min(2 * held, most) if broken > most else (held + broken) // 2
    return held, held < most


def staggered(number: int, within_s: float, seed: int) -> list[float]:
    """Return start times of sessions that are to run at once: seeded, spread over `within_s`, the first at 0."""
    times = np.random.default_rng([seed, number]).uniform(0.0, within_s, number)
    times[0] = 0.0
    return sorted(float(at_s) for at_s in times)


def summary_of(served: Sequence[Served]) -> dict[str, Any]:
    """Return the figures of many sessions as JSON types."""
    first = [one.first_frame_s for one in served if one.first_frame_s is not None]
    reasons = sorted({one.failure for one in served if one.failure})
    return {
        "sessions": len(served),
        "sustained": sum(one.sustained for one in served),
        "failed": sum(bool(one.failure) for one in served),
        "stalls": sum(one.stalls for one in served),
        "stall_s": round(sum(one.stall_s for one in served), 4),
        "most_at_once": most_at_once(served),
        **{f"first_frame_{name}_s": value for name, value in viewing.percentiles(first).items()},
        "failures": reasons[:5],
    }
