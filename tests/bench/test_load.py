"""Many sessions at once: who counts as sustained, and that nothing outlives its measurement."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from lt_eval.bench.load import Served, find_most, most_at_once, serve, staggered, start_times, summary_of
from lt_eval.bench.work import Drive
from lt_eval.errors import SpecError
from lt_eval.records import Audio, Frames
from tests.bench.odd import Odd, Paced

DRIVE = Drive(seconds=1.0, size=16, kind="noise")


def alive() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("session-")]


def test_sessions_of_an_idle_machine_are_sustained_and_leave_no_thread() -> None:
    served = serve(Paced(work_s=0.001), lambda _: None, DRIVE, [0.0, 0.1, 0.2], 25.0, 0.8)
    assert [one.sustained for one in served] == [True] * 3
    assert [one.start_s for one in served] == pytest.approx([0.0, 0.1, 0.2], abs=0.5)
    assert all(one.end_s - one.start_s >= 1.0 for one in served)
    assert alive() == []


def test_latency_counts_from_the_audio_of_the_first_block_as_in_a_bench() -> None:
    """The block of 0.2 s comes in pieces of 0.04 s, each at once: what the first piece waits for is no latency."""

    class Pieces(Paced):
        block_frames = (5, 5)

        def speak(self, speech: Iterable[Audio], *, text: str = "") -> Iterator[Frames]:
            for block in super().speak(speech, text=text):
                yield from np.split(block, len(block))

    (one,) = serve(Pieces(work_s=0.0), lambda _: None, DRIVE, [0.0], 25.0, 0.8)
    assert one.first_frame_s is not None and -0.01 < one.first_frame_s < 0.1


def test_sessions_that_wait_for_each_other_freeze() -> None:
    """A block of 0.2 s takes 0.15 s: one session holds, and three together need 0.45 s a block."""
    busy = Paced(work_s=0.15, one_at_a_time=True)
    assert all(one.sustained for one in serve(busy, lambda _: None, DRIVE, [0.0], 25.0, 0.8))
    crowd = serve(busy, lambda _: None, DRIVE, [0.0, 0.0, 0.0], 25.0, 0.4)
    assert sum(one.stalls for one in crowd) > 0 and not all(one.sustained for one in crowd)


def test_a_failing_session_is_counted_and_costs_no_other() -> None:
    served = serve(Odd("raise"), lambda _: None, DRIVE, [0.0, 0.0], 25.0, 0.0)
    found = summary_of(served)
    assert (found["failed"], found["sustained"]) == (2, 0) and found["failures"] == ["RuntimeError: out of ideas"]


def test_sessions_that_fall_far_behind_are_cut_off_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lt_eval.bench.load._LEAVE_S", 1.0)
    begin = time.perf_counter()
    served = serve(Odd(delay_s=0.3, chunks=1000, at=-1), lambda _: None, DRIVE, [0.0], 25.0, 0.0)
    assert time.perf_counter() - begin < 15
    assert not served[0].sustained and "cut off" in served[0].failure and alive() == []


def test_a_session_that_does_not_stop_is_a_failure_and_not_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lt_eval.bench.load._LEAVE_S", 0.3)
    monkeypatch.setattr("lt_eval.bench.load.OVERTIME", 0.0)
    served = serve(Odd(delay_s=4.0, at=-1), lambda _: None, DRIVE, [0.0], 25.0, 0.0)
    assert served[0].failure == "did not stop when asked to"


def test_only_sessions_give_signs_of_life() -> None:
    told: list[str] = []
    serve(Paced(work_s=0.0), told.append, DRIVE, [0.0], 25.0, 0.4)
    assert told.pop(0) == "conditions"
    assert 1 <= len(told) <= 8  # five chunks, the opening and the end; not one for every look


@pytest.mark.parametrize("limit", [0, 1, 2, 5, 11, 63])
def test_the_search_finds_the_largest_number_and_asks_seldom(limit: int) -> None:
    asked: list[int] = []

    def sustains(number: int) -> bool:
        asked.append(number)
        return number <= limit

    assert find_most(sustains, 64) == (limit, True)
    assert len(asked) == len(set(asked)) <= 13


def test_the_search_never_asks_beyond_its_bound_and_says_that_the_end_is_open() -> None:
    asked: list[int] = []

    def sustains(number: int) -> bool:
        asked.append(number)
        return True

    assert find_most(sustains, 10) == (10, False)
    assert max(asked) == 10


def test_a_search_out_of_time_tells_what_it_knows() -> None:
    answers = iter([True, True, False])
    assert find_most(lambda _: True, 64, lambda: next(answers)) == (2, False)


def test_visitors_arrive_at_the_rate_and_independently() -> None:
    """4,000 expected, standard deviation 63: a miss of 300 has a chance below 1e-5. Gaps vary as much as they last."""
    times = start_times(4.0, 1000.0, "poisson", seed=1)
    gaps = np.diff(times)
    assert abs(len(times) - 4000) < 300 and times == sorted(times) and times[-1] < 1000
    assert np.std(gaps) == pytest.approx(np.mean(gaps), rel=0.1)
    assert times == start_times(4.0, 1000.0, "poisson", seed=1) != start_times(4.0, 1000.0, "poisson", seed=2)


def test_a_fixed_rate_is_even() -> None:
    assert start_times(2.0, 2.0, "fixed", seed=0) == [0.0, 0.5, 1.0, 1.5]


def test_a_rate_must_be_above_zero() -> None:
    with pytest.raises(SpecError, match="above 0"):
        start_times(0.0, 1.0, "poisson", seed=0)


def test_the_most_at_once_counts_overlaps() -> None:
    def ran(start_s: float, end_s: float) -> Served:
        return Served(start_s, end_s, None, 0, 0.0, "")

    assert most_at_once([ran(0, 2), ran(1, 3), ran(2, 4)]) == 2
    assert most_at_once([ran(0, 5), ran(1, 4), ran(2, 3)]) == 3
    assert most_at_once([]) == 0


def test_staggered_sessions_overlap_and_are_seeded() -> None:
    times = staggered(8, 1.0, seed=3)
    assert times[0] == 0.0 and times == sorted(times) and times[-1] < 1.0
    assert times == staggered(8, 1.0, seed=3) != staggered(8, 1.0, seed=4)
