"""How a person moves while talking: articulators that follow the phonemes, head, eyes, brows and blinks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lt_eval.synthetic.phonemes import PHONEMES, SILENCE, Mouth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator
    from numpy.typing import NDArray

    from lt_eval.synthetic.speaker import Segment

    Array = NDArray[np.float64]

_REACH_S = np.array([0.038, 0.060, 0.060, 0.038, 0.030])
"""How far a phoneme's jaw, width, rounding, teeth and tongue spread into its neighbours.

Cohen & Massaro's dominance, here of Gaussian form; lips round well ahead of a rounded vowel.
"""

_SEAL_S = 0.070
"""Lips take this long to meet before P, B and M, and to part after."""


_BLOCK = 32

_DECIMALS = 6
"""Tracks are rounded, so that the last bit of a sine does not decide over a pixel."""


class Pose(NamedTuple):
    """Head position. `x`, `y` in head heights, `roll` in radians, `yaw` and `pitch` -1..1, `breath` 0..1."""

    x: float = 0.0
    y: float = 0.0
    roll: float = 0.0
    scale: float = 1.0
    yaw: float = 0.0
    pitch: float = 0.0
    breath: float = 0.0


class Look(NamedTuple):
    """Everything but the mouth that changes on a face: lids 0 open .. 1 shut, brows 0..1, gaze -1..1, smile 0..1."""

    blink: float = 0.0
    brow: float = 0.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0
    smile: float = 0.0


@dataclass(frozen=True)
class Manner:
    """How somebody moves; all amplitudes are factors about 1.

    Attributes:
        words: how the prompt says it.
        sway: sideways and turning motion of the head. `nod`: nods on stressed syllables. `tempo`: speed of both.
        smile: 0..1. `brows`: how much they rise on stress. `effort`: how wide the mouth moves.
        blinks_per_min: mean rate.
    """

    words: str = "calmly"
    sway: float = 1.0
    nod: float = 1.0
    tempo: float = 1.0
    smile: float = 0.1
    brows: float = 0.5
    effort: float = 1.0
    blinks_per_min: float = 18.0


MANNERS = (
    Manner("calmly, keeping the head almost still", sway=0.5, nod=0.4, tempo=0.8),
    Manner("calmly, with a slow sway of the head", sway=1.4, nod=0.5, tempo=0.6),
    Manner("with lively movements of the head", sway=1.6, nod=1.4, tempo=1.3, brows=0.8),
    Manner("nodding on every stressed word", sway=0.7, nod=2.2, brows=0.5),
    Manner("with a friendly smile", sway=1.0, nod=0.9, smile=0.55, brows=0.6),
    Manner("with raised eyebrows, as if surprised", sway=0.9, nod=0.8, brows=1.4, effort=1.1),
    Manner("earnestly, with clear articulation", sway=0.7, nod=1.0, smile=0.0, brows=0.3, effort=1.15),
    Manner("softly, hardly moving the lips", sway=0.8, nod=0.6, smile=0.15, brows=0.3, effort=0.75),
)


def _targets(segments: Sequence[Segment]) -> tuple[Array, Array, Array]:
    """Return the core span [K, 2] in seconds, the shape [K, 5] and the dominance [K] of every target."""
    spans, shapes, weights = [], [], []
    for segment in segments:
        phoneme, length_s = PHONEMES[segment.phoneme], segment.end_s - segment.start_s
        shape = np.array(phoneme.mouth[:5])
        if phoneme.is_vowel and segment.stress == 0:
            shape[0] *= 0.8
        if phoneme.glide_to is None:
            inset_s = 0.25 * length_s if phoneme.name != SILENCE else min(0.08, 0.4 * length_s)
            spans.append((segment.start_s + inset_s, segment.end_s - inset_s))
            shapes.append(shape)
            weights.append(phoneme.dominance)
            continue
        spans += [
            (segment.start_s + f * length_s, segment.start_s + g * length_s) for f, g in ((0.2, 0.42), (0.75, 0.9))
        ]
        shapes += [shape, np.array(phoneme.glide_to[1][:5])]
        weights += [phoneme.dominance] * 2
    return np.array(spans), np.array(shapes), np.array(weights)


def _seal(segments: Sequence[Segment], times_s: Array, articulator: str, ramp_s: float) -> Array:
    """1 within the segments whose phonemes ask for that articulator, with smooth ramps before and after."""
    sealed = np.zeros(len(times_s))
    for segment in segments:
        if getattr(PHONEMES[segment.phoneme].mouth, articulator):
            outside_s = np.maximum(np.maximum(segment.start_s - times_s, times_s - segment.end_s), 0.0)
            part = np.clip(1.0 - outside_s / ramp_s, 0.0, 1.0)
            sealed = np.maximum(sealed, part * part * (3 - 2 * part))
    return sealed


def articulate(segments: Sequence[Segment], times_s: Array, effort: float = 1.0) -> Array:
    """Return the mouth at given times: float64 [T, 7], columns as the fields of `Mouth`.

    Shapes blend by dominance; `closure` is exactly 1 within P, B and M.
    """
    spans, shapes, weights = _targets(segments)
    mouth = np.zeros((len(times_s), len(Mouth._fields)))
    # A second at a time: every target against every frame would grow with the square of the length.
    for begin in range(0, len(times_s), _BLOCK):
        block = times_s[begin : begin + _BLOCK]
        near = (spans[:, 1] > block[0] - 1.0) & (spans[:, 0] < block[-1] + 1.0)
        outside_s = np.maximum(np.maximum(spans[near, 0] - block[:, None], block[:, None] - spans[near, 1]), 0.0)
        far = 1e-9 / (1e-3 + outside_s)[:, :, None]
        pull = weights[near][:, None] * np.exp(-((outside_s[:, :, None] / _REACH_S) ** 2)) + far
        mouth[begin : begin + _BLOCK, :5] = (pull * shapes[near]).sum(1) / pull.sum(1)
    mouth[:, 0] *= effort
    mouth[:, 5] = _seal(segments, times_s, "closure", _SEAL_S)
    mouth[:, 6] = _seal(segments, times_s, "labiodental", 0.8 * _SEAL_S)
    return np.round(mouth, _DECIMALS)


def _drift(rng: Generator, times_s: Array, tempo: float) -> Array:
    """Smooth motion of unit amplitude, 0.08 to 0.8 Hz at tempo 1: a few sines."""
    frequencies_hz = tempo * np.array([0.11, 0.23, 0.41, 0.72]) * (0.75 + 0.5 * rng.random(4))
    phases, sizes = 2 * np.pi * rng.random(4), np.array([0.6, 0.5, 0.3, 0.12])
    return np.asarray((sizes * np.sin(2 * np.pi * frequencies_hz * times_s[:, None] + phases)).sum(1))


def _accents(segments: Sequence[Segment], times_s: Array, rng: Generator, width_s: float) -> Array:
    """A bump of random height on every stressed vowel."""
    track = np.zeros(len(times_s))
    for segment in segments:
        height = rng.random()
        if segment.stress == 1:
            centre_s = 0.5 * (segment.start_s + segment.end_s)
            track += height * np.exp(-0.5 * ((times_s - centre_s) / width_s) ** 2)
    return track


def _blinks(rng: Generator, times_s: Array, per_minute: float) -> Array:
    """Lids over time: shut within 70 ms, open again within 150 ms."""
    lids = np.zeros(len(times_s))
    end_s = float(times_s[-1]) if len(times_s) else 0.0
    at_s = 0.6 + 2.0 * rng.random()
    while at_s < end_s:
        since_s = times_s - at_s
        shutting, opening = np.clip(1 + since_s / 0.07, 0, 1), np.clip(1 - (since_s - 0.04) / 0.15, 0, 1)
        lids = np.maximum(lids, np.minimum(shutting, opening))
        at_s += max(0.5, -np.log(1 - rng.random()) * 60.0 / per_minute)
    return np.asarray(lids * lids * (3 - 2 * lids))


def _gaze(rng: Generator, times_s: Array) -> tuple[Array, Array]:
    """Small jumps of the eyes, every one or two seconds, about the camera."""
    x, y = np.zeros(len(times_s)), np.zeros(len(times_s))
    at_s = 0.0
    while len(times_s) and at_s < times_s[-1]:
        away = rng.random() < 0.25
        size = 0.5 if away else 0.12
        later = times_s >= at_s
        x[later], y[later] = size * (2 * rng.random() - 1), 0.6 * size * (2 * rng.random() - 1)
        at_s += 0.3 + 0.5 * rng.random() if away else 0.6 + 1.8 * rng.random()
    return x, y


def move(segments: Sequence[Segment], times_s: Array, manner: Manner, seed: int) -> tuple[list[Pose], list[Look]]:
    """Return pose and look at given times."""
    rng = np.random.Generator(np.random.PCG64([seed, 2]))
    drifts = [_drift(rng, times_s, manner.tempo) for _ in range(6)]
    nods = _accents(segments, times_s, rng, 0.11)
    raises = _accents(segments, times_s, rng, 0.16)
    mean_brow = 0.35 * max(0.0, manner.brows - 0.7)
    breath = 0.5 + 0.5 * np.sin(2 * np.pi * (0.25 * times_s + rng.random()))
    columns = (
        0.022 * manner.sway * drifts[0],
        0.010 * manner.sway * drifts[1] + 0.010 * manner.nod * nods,
        0.030 * manner.sway * drifts[2],
        1.0 + 0.012 * manner.sway * drifts[3],
        0.50 * manner.sway * drifts[4],
        0.22 * manner.sway * drifts[5] + 0.30 * manner.nod * nods,
        breath,
    )
    poses = [Pose(*(float(value) for value in row)) for row in np.stack(columns, 1).round(_DECIMALS)]
    gaze_x, gaze_y = _gaze(rng, times_s)
    looks = np.stack(
        [
            _blinks(rng, times_s, manner.blinks_per_min),
            np.clip(mean_brow + 0.55 * manner.brows * raises, 0, 1),
            gaze_x,
            gaze_y,
            np.full(len(times_s), manner.smile),
        ],
        1,
    )
    return poses, [Look(*(float(value) for value in row)) for row in looks.round(_DECIMALS)]
