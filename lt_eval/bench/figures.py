"""Timed runs to the figures of a bench: each run's own, their mean with its interval, and all runs pooled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lt_eval import stats
from lt_eval.bench import viewing

if TYPE_CHECKING:
    from lt_eval.bench.timing import Timeline


@dataclass(frozen=True)
class Figure:
    """One figure of a bench.

    Attributes:
        unit: of its values.
        label: for a table.
        digits: to print.
    """

    label: str
    unit: str
    digits: int = 3


FIGURES: Mapping[str, Figure] = {
    "throughput_fps": Figure("throughput", "FPS", 2),
    "steady_fps": Figure("throughput, steady", "FPS", 2),
    "first_frame_s": Figure("first frame, compute", "s"),
    "session_open_s": Figure("  of which opening the session", "s"),
    "audio_needed_s": Figure("  audio taken before it", "s"),
    "with_audio_s": Figure("first frame, with audio", "s"),
    "gap_p50_s": Figure("gap between blocks, p50", "s"),
    "gap_p90_s": Figure("gap between blocks, p90", "s"),
    "gap_p99_s": Figure("gap between blocks, p99", "s"),
    "real_time_factor": Figure("real-time factor, below 1 keeps up", ""),
    "late_share": Figure("chunks too late for the viewer", "share"),
    "stalls": Figure("freezes a turn", "", 2),
    "stall_s": Figure("  seconds frozen", "s"),
    "buffer_needed_s": Figure("buffer without a late chunk", "s"),
    "energy_j_per_frame": Figure("energy", "J/frame"),
}
"""In the order of the table. Which are latencies of compute and which hold the audio's time: `bench.viewing`."""


def figures_of(
    timeline: Timeline,
    playback_fps: float,
    buffer_s: float,
    block_frames: Sequence[int],
    energy: Mapping[str, float | None],
) -> dict[str, float]:
    """Return the figures of one run by name; those that it has no value for are left out."""
    gaps = viewing.percentiles(viewing.gaps_s(timeline, block_frames) if timeline.streams else [])
    seen = viewing.watch(timeline.arrivals, playback_fps, buffer_s)
    joules = [value for value in energy.values() if value is not None]
    values = {
        "throughput_fps": viewing.throughput_fps(timeline),
        "steady_fps": viewing.steady_fps(timeline, block_frames),
        "first_frame_s": viewing.first_frame_s(timeline, block_frames),
        "session_open_s": timeline.opened_s,
        "audio_needed_s": viewing.audio_needed_s(timeline),
        "with_audio_s": viewing.with_audio_s(timeline),
        **{f"gap_{name}_s": value for name, value in gaps.items()},
        "real_time_factor": viewing.real_time_factor(timeline, playback_fps),
        "late_share": seen.late / seen.chunks if seen.chunks else None,
        "stalls": float(seen.stalls),
        "stall_s": seen.stall_s,
        "buffer_needed_s": seen.buffer_needed_s,
        "energy_j_per_frame": sum(joules) / timeline.frames if joules else None,
    }
    return {name: value for name, value in values.items() if value is not None}


def pooled(timelines: Sequence[Timeline], block_frames: Sequence[int]) -> dict[str, float | None]:
    """Return what only all runs together have: frames over all wall time, and percentiles of all gaps."""
    gaps = [gap for timeline in timelines if timeline.streams for gap in viewing.gaps_s(timeline, block_frames)]
    wall_s = sum(timeline.arrivals[-1].at_s for timeline in timelines)
    return {
        "throughput_fps": sum(timeline.frames for timeline in timelines) / wall_s if timelines else None,
        **{f"gap_{name}_s": value for name, value in viewing.percentiles(gaps).items()},
        "gaps": len(gaps),
    }


def means(rows: Sequence[Mapping[str, float]], seed: int = 0) -> dict[str, dict[str, Any]]:
    """Return each figure's mean over runs with its 95 % interval (`stats.mean_interval`) and the number of runs.

    Bounds are None with a single run. An interval ends at what a figure can be: none is negative, and no share is more
    than 1.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, figure in FIGURES.items():
        values = [row[name] for row in rows if name in row]
        if not values:
            continue
        mean, low, high = stats.mean_interval(values, seed=seed)
        low = None if low is None else max(0.0, low)
        high = min(1.0, high) if high is not None and figure.unit == "share" else high
        found[name] = {"mean": mean, "low": low, "high": high, "n": len(values)}
    return found


def table(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines of a table for people, aligned."""
    cells = [(FIGURES[name], value) for name, value in found.items() if name in FIGURES]
    width = max((len(figure.label) for figure, _ in cells), default=0)
    lines = []
    for figure, value in cells:
        number = f"{value['mean']:.{figure.digits}f}"
        if value["low"] is not None:
            number += f"  [{value['low']:.{figure.digits}f}, {value['high']:.{figure.digits}f}]"
        lines.append(f"{figure.label:<{width}}  {number} {figure.unit}".rstrip())
    return lines
