"""Figures of arrival times in closed form."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lt_eval.bench.timing import Arrival, Pace, Pull, Timeline
from lt_eval.bench.viewing import (
    audio_needed_s,
    block_ends,
    first_blocks,
    first_frame_s,
    gaps_s,
    percentiles,
    real_time_factor,
    steady_fps,
    throughput_fps,
    watch,
    with_audio_s,
)

FPS = 25.0


def timeline(
    times: Sequence[float],
    counts: Sequence[int],
    *,
    pulls: Sequence[tuple[float, float]] = (),
    heard: float = 0.0,
    pace: Pace = "instant",
    streams: bool = True,
) -> Timeline:
    arrivals = tuple(Arrival(at, count, heard) for at, count in zip(times, counts, strict=True))
    held = tuple(Pull(*pull) for pull in pulls)
    return Timeline(arrivals, held, 0.1, times[-1] + 1.0, 2.0, FPS, (16, 16), pace, streams)


def test_throughput_is_frames_over_the_time_of_the_last_one() -> None:
    assert throughput_fps(timeline([1.0, 2.0, 4.0], [9, 12, 12])) == 33 / 4


def test_the_steady_state_begins_with_the_sixth_block_whatever_came_before() -> None:
    """Ten blocks of 12 frames, half a second each from the sixth on: 24 FPS, after a start that took a minute."""
    times = [60.0 + n for n in range(5)] + [64.5 + 0.5 * n for n in range(5)]
    assert steady_fps(timeline(times, [9] + [12] * 9)) == pytest.approx(24)
    assert steady_fps(timeline(times[:5], [9] + [12] * 4)) is None


def test_chunks_smaller_than_a_block_do_not_shorten_the_warm_up() -> None:
    """A block in three chunks: the first five blocks are 9 + 4 * 12 frames, so 15 chunks."""
    counts = [1, 4, 4] + [4] * 24
    times = [float(n) for n in range(1, 28)]
    times[15:] = [times[14] + 0.1 * n for n in range(1, 13)]
    assert first_blocks((9, 12)) == [9, 12, 12, 12, 12]
    assert steady_fps(timeline(times, counts), (9, 12)) == pytest.approx(4 / 0.1)
    assert steady_fps(timeline(times, counts)) != pytest.approx(40)


def test_gaps_are_between_blocks_where_blocks_are_known() -> None:
    found = timeline([1.0, 1.5, 3.0, 3.5], [6, 3, 6, 6])
    assert block_ends(found.arrivals, (9, 12)) == [1.5, 3.5]
    assert gaps_s(found, (9, 12)) == [2.0]
    assert gaps_s(found) == [0.5, 1.5, 0.5]


def test_a_generator_that_does_not_stream_shows_its_first_frame_with_its_last() -> None:
    kept = timeline([5.0, 5.1, 5.2], [1, 1, 1], streams=False)
    assert first_frame_s(kept) == 5.2 and steady_fps(kept) is None


def test_latency_with_audio_is_the_audio_needed_and_the_work_after_it() -> None:
    """Opening takes 0.1 s, six chunks of 0.1 s are taken at once, then 0.3 s of work: 0.6 + 0.3, opening hidden."""
    pulls = [(0.1, 0.1 * n) for n in range(1, 7)]
    found = timeline([0.4], [9], pulls=pulls, heard=0.6)
    assert first_frame_s(found) == 0.4 and audio_needed_s(found) == 0.6
    assert with_audio_s(found) == pytest.approx(0.6 + 0.3)


def test_latency_with_audio_of_slow_work_between_chunks_is_the_work() -> None:
    """Each chunk of 0.1 s costs 0.5 s before the next is taken: the audio waits for the generator."""
    found = timeline([2.0], [9], pulls=[(0.5, 0.1), (1.0, 0.2), (1.5, 0.3)], heard=0.3)
    assert with_audio_s(found) == pytest.approx(0.5 + 1.5)


def test_audio_taken_after_the_first_frame_does_not_delay_it() -> None:
    found = timeline([0.2, 9.0], [9, 9], pulls=[(0.1, 0.1), (0.3, 5.0)], heard=0.1)
    assert with_audio_s(found) == pytest.approx(0.2)


def test_latency_in_real_time_counts_from_the_audio_of_the_first_block() -> None:
    found = timeline([0.7, 1.2], [9, 12], pace="realtime")
    assert first_frame_s(found) == pytest.approx(0.7 - 9 / FPS) and with_audio_s(found) == 0.7
    assert first_frame_s(found, (12,)) == pytest.approx(0.7 - 12 / FPS)


def test_the_real_time_factor_is_below_one_where_generation_keeps_up() -> None:
    found = timeline([1.0, 2.0], [50, 50])
    assert real_time_factor(found, 25) == 0.5 and real_time_factor(found, 100) == 2.0


def test_a_steady_generator_as_fast_as_playback_never_freezes() -> None:
    arrivals = [Arrival(0.3 + 0.4 * n, 10, 0.0) for n in range(20)]
    seen = watch(arrivals, FPS)
    assert (seen.start_s, seen.late, seen.stalls, seen.stall_s) == (0.3, 0, 0, 0.0) and seen.chunks == 19
    assert seen.buffer_needed_s == pytest.approx(0.0, abs=1e-9)


def test_half_as_fast_freezes_at_every_block_for_as_long_as_it_plays() -> None:
    """Blocks of 0.4 s come every 0.8 s: each of the nine later ones is late, and each freeze lasts 0.4 s."""
    seen = watch([Arrival(0.8 * (n + 1), 10, 0.0) for n in range(10)], FPS)
    assert (seen.late, seen.stalls) == (9, 9) and seen.stall_s == pytest.approx(3.6)
    assert seen.buffer_needed_s == pytest.approx(3.6)


def test_one_long_wait_is_one_freeze_and_a_buffer_as_long_avoids_it() -> None:
    times = [0.4, 0.8, 2.2, 2.4, 2.8]  # the third block is due at 1.2 and comes 1 s later
    arrivals = [Arrival(at, 10, 0.0) for at in times]
    seen = watch(arrivals, FPS)
    assert (seen.stalls, seen.late) == (1, 3) and seen.stall_s == pytest.approx(1.0)
    assert seen.buffer_needed_s == pytest.approx(1.0)
    assert watch([Arrival(0.4, 35, 0.0), *arrivals[1:]], FPS).stalls == 0


def test_a_viewer_waits_for_the_buffer_or_for_the_end() -> None:
    arrivals = [Arrival(float(n), 10, 0.0) for n in range(1, 6)]  # 0.4 s of video a second
    assert watch(arrivals, FPS, 0.4).start_s == 1.0
    assert watch(arrivals, FPS, 0.41).start_s == 2.0
    waited = watch(arrivals, FPS, 100.0)
    assert (waited.start_s, waited.chunks, waited.stalls) == (5.0, 0, 0)


def test_the_needed_buffer_is_enough_and_nothing_less_is() -> None:
    times = [0.5, 1.4, 1.5, 2.9, 3.0, 3.1]
    needed = watch([Arrival(at, 10, 0.0) for at in times], FPS).buffer_needed_s
    for wait, late in ((needed + 1e-6, False), (needed - 1e-3, True)):
        assert any(at > times[0] + wait + 0.4 * n + 1e-9 for n, at in enumerate(times)) is late


def test_percentiles_of_nothing_are_nothing() -> None:
    assert percentiles([]) == {"p50": None, "p90": None, "p99": None}
    assert percentiles([3.0] * 7) == {"p50": 3.0, "p90": 3.0, "p99": 3.0}
