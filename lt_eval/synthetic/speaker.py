"""Who speaks, and when each phoneme begins and ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lt_eval.synthetic.phonemes import SILENCE, split_stress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator

    from lt_eval.synthetic.lexicon import Utterance

TICK_HZ = 500
"""Control rate of the synthesiser. Segments begin and end on ticks, 2 ms apart."""

_SHORTEST_CLOSURE_S = 0.066
"""So that at 25 frames a second the middle of at least one frame falls into every P, B and M."""


@dataclass(frozen=True)
class Voice:
    """The parameters of a speaker.

    Attributes:
        pitch_hz: mean fundamental frequency.
        pitch_range: size of accents and falls, 0 (monotone) .. 1.
        formant_scale: of the adult male targets; 1.15 is a typical woman, 1.3 a child.
        rate: speed of speech; 1 is about 12 phonemes a second.
        breathiness: 0..1, breath noise and open glottis.
        jitter: cycle-to-cycle change of the period, as a fraction.
        shimmer: cycle-to-cycle change of the amplitude, as a fraction.
        upper_scale: of F4..F7, which carry a speaker's timbre.
    """

    pitch_hz: float = 120.0
    pitch_range: float = 0.5
    formant_scale: float = 1.0
    rate: float = 1.0
    breathiness: float = 0.2
    jitter: float = 0.008
    shimmer: float = 0.05
    upper_scale: float = 1.0


class Segment(NamedTuple):
    """One phoneme (ARPAbet, SIL for silence) from `start_s` until `end_s`; a stop's segment ends with its burst."""

    phoneme: str
    stress: int
    start_s: float
    end_s: float
    word: str = ""


def make_voice(rng: Generator, *, high: bool | None = None) -> Voice:
    """Draw a speaker: high voices (women, children) and low ones with their own pitch and vocal tract length."""
    if high is None:
        high = bool(rng.random() < 0.5)
    scale = rng.uniform(1.12, 1.24) if high else rng.uniform(0.94, 1.06)
    pitch_hz = rng.uniform(175.0, 245.0) if high else rng.uniform(88.0, 150.0)
    return Voice(
        pitch_hz=round(pitch_hz, 1),
        pitch_range=round(rng.uniform(0.35, 0.9), 3),
        formant_scale=round(scale, 3),
        rate=round(rng.uniform(0.9, 1.15), 3),
        breathiness=round(rng.uniform(0.05, 0.6), 3),
        jitter=round(rng.uniform(0.004, 0.014), 4),
        shimmer=round(rng.uniform(0.02, 0.09), 3),
        upper_scale=round(scale * rng.uniform(0.96, 1.04), 3),
    )


def _duration_s(symbols: Sequence[str], index: int, *, final: bool, rate: float) -> float:
    """Length of one phoneme of a word, before chance: stress, clusters and the end of a phrase change it."""
    phoneme, stress = split_stress(symbols[index])
    duration_s = phoneme.duration_s
    neighbours = [split_stress(symbols[i])[0] for i in (index - 1, index + 1) if 0 <= i < len(symbols)]
    if phoneme.is_vowel:
        duration_s *= (0.62, 1.0, 0.85)[stress]
        following = neighbours[-1] if index + 1 < len(symbols) else None
        if following is not None and following.kind == "stop" and following.voicing == 0:
            duration_s *= 0.85
    elif any(not neighbour.is_vowel for neighbour in neighbours):
        duration_s *= 0.85
    if final and all(not split_stress(s)[0].is_vowel for s in symbols[index + 1 :]):
        duration_s *= 1.4 if phoneme.is_vowel else 1.2
    duration_s /= rate
    return max(duration_s, _SHORTEST_CLOSURE_S) if phoneme.mouth.closure else duration_s


def plan(utterance: Utterance, rate: float, rng: Generator, start_s: float = 0.0) -> list[Segment]:
    """Return the segments of an utterance, back to back from `start_s`, on ticks; its pauses are SIL segments."""
    tick = round(start_s * TICK_HZ)
    segments = []
    for position, word in enumerate(utterance.words):
        final = word.pause_s > 0 or position + 1 == len(utterance.words)
        symbols = [*word.phonemes, *([SILENCE] if word.pause_s else [])]
        for index, symbol in enumerate(symbols):
            phoneme, stress = split_stress(symbol)
            if phoneme.name == SILENCE:
                duration_s = word.pause_s / rate
            else:
                duration_s = _duration_s(word.phonemes, index, final=final, rate=rate)
            chance = 1.0 + 0.16 * (rng.random() - 0.5)
            if phoneme.mouth.closure:
                chance = max(chance, 1.0)
            end = tick + max(10, int(np.ceil(duration_s * chance * TICK_HZ)))
            text = "" if phoneme.name == SILENCE else word.text
            segments.append(Segment(phoneme.name, stress, tick / TICK_HZ, end / TICK_HZ, text))
            tick = end
    return segments
