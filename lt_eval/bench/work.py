"""What is done with a generator in its own process. Called through `lt_eval.bench.host`; plain records come back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, cast

from lt_eval.bench.conditions import Conditions, Kind, draw_conditions
from lt_eval.bench.resources import EnergyMeter, gpu_names, peak_memory
from lt_eval.bench.timing import AUDIO_CHUNK_S, Pace, Timeline, listen
from lt_eval.bench.viewing import STEADY_BLOCKS, block_ends
from lt_eval.interfaces import HasBlocks, HasStages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lt_eval.interfaces import Generator

Tell = Callable[[str], None]

WARM_CHUNKS = STEADY_BLOCKS + 1
"""Blocks that a warm-up must reach: five that fill the window, each of another cache shape, and a steady one."""

_LONGEST_WARM_UP = 8.0


@dataclass(frozen=True)
class Drive:
    """What a generator is given in every run.

    Attributes:
        seconds: of audio.
        size: side of the portrait in pixels.
        kind: of the conditions.
        chunk_s: seconds of each chunk of audio; None gives all at once.
        pace: how the audio comes.
        seed: run n draws its conditions from seed + n.
    """

    seconds: float = 5.0
    size: int = 512
    kind: Kind = "talker"
    chunk_s: float | None = AUDIO_CHUNK_S
    pace: Pace = "instant"
    seed: int = 0


@dataclass(frozen=True)
class TimedRun:
    """One timed turn.

    Attributes:
        timeline: its arrival times.
        energy: joules of processor and GPUs meanwhile; None where it cannot be read.
        memory: the most that the process had held until then.
        gpus: that the process uses.
    """

    timeline: Timeline
    energy: Mapping[str, float | None]
    memory: Mapping[str, float | None]
    gpus: tuple[str, ...]


def conditions_of(drive: Drive, number: int, sample_rate: int, seconds: float | None = None) -> Conditions:
    """Draw the conditions of run `number`; warm-ups have negative numbers."""
    seed = (drive.seed + number) % 2**32
    return draw_conditions(seed, drive.seconds if seconds is None else seconds, drive.size, sample_rate, drive.kind)


def _listen(generator: Generator, tell: Tell, drive: Drive, given: Conditions, pace: Pace) -> Timeline:
    return listen(
        generator,
        given.portrait,
        given.audio,
        prompt=given.prompt,
        text=given.text,
        seed=given.seed,
        chunk_s=drive.chunk_s,
        pace=pace,
        tell=tell,
    )


def blocks_of(generator: Generator, timeline: Timeline) -> int:
    """Return how many whole blocks (chunks where blocks are not known) a turn has reached."""
    return len(block_ends(timeline.arrivals, block_frames(generator)))


def block_frames(generator: Generator) -> tuple[int, ...]:
    """Return the frames of a generator's first, second ... block, or () where it does not say."""
    return tuple(generator.block_frames) if isinstance(generator, HasBlocks) else ()


class Warmed(NamedTuple):
    """What a warm-up reached: how many blocks, and how long its first session took to open."""

    blocks: int
    opened_s: float


def warm_up(generator: Generator, tell: Tell, drive: Drive, number: int) -> Warmed:
    """Generate without a clock until every cache shape has been seen.

    The turn is as long as the timed ones, so that none of these meets a shape for the first time, and longer where
    they are too short to fill the window. A generator that does not stream is not made to.
    """
    seconds, opened_s = drive.seconds, None
    while True:
        timeline = _listen(
            generator, tell, drive, conditions_of(drive, -number, generator.sample_rate, seconds), "instant"
        )
        reached = blocks_of(generator, timeline)
        opened_s = timeline.opened_s if opened_s is None else opened_s
        if reached >= WARM_CHUNKS or not timeline.streams or seconds >= _LONGEST_WARM_UP * drive.seconds:
            return Warmed(reached, opened_s)
        seconds = min(_LONGEST_WARM_UP * drive.seconds, seconds * (WARM_CHUNKS + 1) / reached)


def timed_run(generator: Generator, tell: Tell, drive: Drive, number: int) -> TimedRun:
    """Time one turn."""
    given = conditions_of(drive, number, generator.sample_rate)
    meter = EnergyMeter()
    timeline = _listen(generator, tell, drive, given, drive.pace)
    return TimedRun(timeline, meter.joules(), peak_memory(), tuple(gpu_names()))


@dataclass(frozen=True)
class Stages:
    """Frames a second of each half of a generator alone, over blocks beyond the window.

    Attributes:
        denoise_fps: of latents, no pixel decoded; None where too few blocks came.
        decode_fps: of latents to pixels on the host.
        denoise_first_s: from conditions in memory to the first block's latents.
        decode_first_s: to the first block's pixels.
    """

    denoise_fps: float | None
    decode_fps: float | None
    denoise_first_s: float
    decode_first_s: float


def stages(generator: Generator, tell: Tell, drive: Drive, number: int) -> Stages:
    """Time denoising and decoding apart, on the conditions of run `number`.

    Raises:
        UnscorableError: a half gave no block.
    """
    from lt_eval.errors import UnscorableError

    halves = cast("HasStages", generator)
    given = conditions_of(drive, number, generator.sample_rate)
    found: list[tuple[float | None, float]] = []
    for half in (halves.denoise_only, halves.decode_only):
        begin = time.perf_counter()
        blocks = half(given.portrait, given.audio, prompt=given.prompt, seed=given.seed)
        ends = list(_ends(blocks, begin, tell))
        if not ends:
            raise UnscorableError("no_frames", f"{half.__name__} gave no block.")
        found.append((steady_rate(ends), ends[0][0]))
    (denoise, denoise_first), (decode, decode_first) = found
    return Stages(denoise, decode, denoise_first, decode_first)


def _ends(blocks: Iterator[int], begin: float, tell: Tell) -> Iterator[tuple[float, int]]:
    for frames in blocks:
        yield time.perf_counter() - begin, frames
        tell("block")


def steady_rate(ends: Sequence[tuple[float, int]]) -> float | None:
    """Return frames a second of (end of block, its frames) from the sixth block on; None where there is none."""
    steady = ends[STEADY_BLOCKS - 1 :]
    frames = sum(count for _, (_, count) in pairwise(steady))
    return frames / (steady[-1][0] - steady[0][0]) if frames else None
