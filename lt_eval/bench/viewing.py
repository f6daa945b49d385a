"""Arrival times to figures. Pure functions of a `Timeline`, each a closed form that a test states.

    throughput_fps         frames over wall time, first frame included: the paper's definition (arXiv 2512.23576, 5.2)
    steady_fps             the same from the sixth block on, when the attention window of five blocks is full
    first_frame_s          conditions in memory to first frame on the host; to the last of one that does not stream
    with_audio_s           the same for audio that is spoken meanwhile: nobody can be faster than the speaker
    real_time_factor       wall time over video time at the playback rate; below 1 keeps up
    gaps                   between one chunk and the next
    watch                  a viewer who starts after a buffer: late chunks, freezes, and the buffer that avoids them

Blocks are those that the generator declares (`HasBlocks`); where it declares none, every chunk counts as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from lt_eval.bench.timing import Arrival, Timeline

STEADY_BLOCKS = 5
"""Blocks before the steady state: the paper's attention window holds five, and from then on all cost the same."""


_ROUNDING_S = 1e-9


class Viewing(NamedTuple):
    """What somebody sees who watches while it is made.

    Attributes:
        start_s: when playback starts.
        late: chunks that come after the moment at which their first frame was to be shown, had nothing ever frozen.
        chunks: how many chunks could have been late: all but those that playback started with.
        stalls: how often the picture freezes.
        stall_s: how long in all.
        buffer_needed_s: the shortest wait after the first frame with which no chunk would be late.
    """

    start_s: float
    late: int
    chunks: int
    stalls: int
    stall_s: float
    buffer_needed_s: float


def throughput_fps(timeline: Timeline) -> float:
    """Frames over the wall time from the conditions to the last frame on the host."""
    return timeline.frames / timeline.arrivals[-1].at_s


def steady_fps(timeline: Timeline, block_frames: Sequence[int] = ()) -> float | None:
    """Frames over wall time after the first `STEADY_BLOCKS` blocks; None where the turn does not reach beyond them.

    Args:
        timeline: of one turn.
        block_frames: frames of the first, the second ... block, the last number repeated; empty: a chunk is a block.
    """
    if not timeline.streams:
        return None
    counts = [arrival.frames for arrival in timeline.arrivals]
    warm = sum(first_blocks(block_frames)) if block_frames else sum(counts[:STEADY_BLOCKS])
    shown = np.cumsum(counts)
    mark = int(np.searchsorted(shown, warm))
    if mark >= len(counts) - 1:
        return None
    return float(shown[-1] - shown[mark]) / (timeline.arrivals[-1].at_s - timeline.arrivals[mark].at_s)


def first_blocks(block_frames: Sequence[int], count: int = STEADY_BLOCKS) -> list[int]:
    """Return the frames of the first `count` blocks; the last number given holds for all later ones."""
    return [block_frames[min(index, len(block_frames) - 1)] for index in range(count)]


def first_frame_s(timeline: Timeline, block_frames: Sequence[int] = ()) -> float:
    """Latency of compute: conditions and audio in memory, to the first frame on the host.

    Of audio in real time: since the audio that the first block (or chunk) plays to had been said; what a generator
    hears beyond it, its look-ahead, is latency. One that does not stream shows its first frame with its last.
    """
    if not timeline.streams:
        return timeline.arrivals[-1].at_s - (timeline.audio_s if timeline.pace == "realtime" else 0.0)
    first = timeline.arrivals[0]
    if timeline.pace == "instant":
        return first.at_s
    frames = block_frames[0] if block_frames else first.frames
    return first.at_s - min(frames / timeline.fps, timeline.audio_s)


def audio_needed_s(timeline: Timeline) -> float:
    """Seconds of audio taken before the first frame. More than needed where a generator reads ahead."""
    return timeline.arrivals[0].heard_s if timeline.streams else timeline.arrivals[-1].heard_s


def with_audio_s(timeline: Timeline) -> float:
    """Start of the speech to first frame, had the audio come in real time; measured where it did.

    Otherwise computed: a chunk of audio cannot be taken before it has been said, and what the generator did between
    two chunks takes as long as it took. Where a generator reads ahead on a thread of its own this is an upper bound.
    """
    first = timeline.arrivals[0] if timeline.streams else timeline.arrivals[-1]
    if timeline.pace == "realtime":
        return first.at_s
    clock = before = 0.0
    for pull in timeline.pulls:
        if pull.at_s > first.at_s:
            break
        clock, before = max(clock + pull.at_s - before, pull.heard_s), pull.at_s
    return clock + first.at_s - before


def real_time_factor(timeline: Timeline, playback_fps: float) -> float:
    """Wall time to the last frame over the time that the frames play for."""
    return timeline.arrivals[-1].at_s / (timeline.frames / playback_fps)


def gaps_s(timeline: Timeline, block_frames: Sequence[int] = ()) -> list[float]:
    """Seconds between the end of one block and the end of the next; between chunks where blocks are not known."""
    ends = block_ends(timeline.arrivals, block_frames)
    return [later - earlier for earlier, later in pairwise(ends)]


def block_ends(arrivals: Sequence[Arrival], block_frames: Sequence[int] = ()) -> list[float]:
    """Return when the last frame of each block was there; of each chunk where `block_frames` is empty."""
    if not block_frames:
        return [arrival.at_s for arrival in arrivals]
    shown = np.cumsum([arrival.frames for arrival in arrivals])
    ends: list[float] = []
    due = block_frames[0]
    while due <= shown[-1]:
        ends.append(arrivals[int(np.searchsorted(shown, due))].at_s)
        due += block_frames[min(len(ends), len(block_frames) - 1)]
    return ends


def watch(arrivals: Sequence[Arrival], playback_fps: float, buffer_s: float = 0.0) -> Viewing:
    """Play what arrives at `playback_fps`, from the moment at which `buffer_s` seconds of it are there, or all of it.

    A freeze lasts until the next chunk is there, and everything after it is shown that much later. Whether a chunk is
    late is held against the schedule without freezes, so that one long wait does not excuse what follows.
    """
    times = [arrival.at_s for arrival in arrivals]
    starts = np.concatenate([[0], np.cumsum([arrival.frames for arrival in arrivals])]) / playback_fps
    held = next((i for i in range(len(times)) if starts[i + 1] >= buffer_s), len(times) - 1)
    start_s = times[held]
    shift = stall_s = 0.0
    late = stalls = 0
    for at_s, plays_s in zip(times[held + 1 :], starts[held + 1 : -1], strict=True):
        late += at_s > start_s + plays_s + _ROUNDING_S
        wait = at_s - (start_s + plays_s + shift)
        if wait > _ROUNDING_S:
            stalls, stall_s, shift = stalls + 1, stall_s + wait, shift + wait
    needed = max(at_s - times[0] - plays_s for at_s, plays_s in zip(times, starts, strict=False))
    return Viewing(start_s, int(late), len(times) - held - 1, stalls, float(stall_s), float(max(0.0, needed)))


def percentiles(values: Sequence[float], of: Sequence[int] = (50, 90, 99)) -> dict[str, float | None]:
    """Return {"p50": ...}; None where there is no value."""
    return {f"p{p}": float(np.percentile(values, p)) if len(values) else None for p in of}
