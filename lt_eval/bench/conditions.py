"""Random conditions: a drawn person and what they say, or noise. The same seed gives the same ones on every machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from lt_eval.records import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from lt_eval.records import Audio, Frames

Kind = Literal["talker", "noise"]


@dataclass(frozen=True)
class Conditions:
    """What a generator is given for one turn.

    Attributes:
        portrait: uint8 RGB [size, size, 3].
        audio: float32 [T] mono, -1..1, at the generator's rate.
        prompt: who is seen and how they move; empty with noise.
        text: what is said; empty with noise.
        seed: for the generator's own randomness.
    """

    portrait: Frames
    audio: Audio
    prompt: str
    text: str
    seed: int


def draw_conditions(seed: int, seconds: float, size: int, sample_rate: int, kind: Kind = "talker") -> Conditions:
    """Draw a portrait and speech.

    Args:
        seed: of everything.
        seconds: of audio.
        size: side of the portrait in pixels.
        sample_rate: of the audio in Hz.
        kind: "talker" draws a person and their speech, "noise" pixels and samples.
    """
    if kind == "noise":
        rng = np.random.default_rng(seed)
        portrait = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        return Conditions(portrait, rng.normal(0, 0.1, round(seconds * sample_rate)).astype(np.float32), "", "", seed)
    from lt_eval.synthetic.talker import perform

    person = perform(seed, seconds, size)
    return Conditions(
        person.draw(0), _resampled(person.audio, seconds, sample_rate), person.prompt, person.transcript, seed
    )


def _resampled(audio: Audio, seconds: float, sample_rate: int) -> Audio:
    """Linear interpolation: nobody listens, and nobody's speed depends on it."""
    times_s = np.arange(round(seconds * sample_rate)) / sample_rate
    return np.interp(times_s, np.arange(len(audio)) / SAMPLE_RATE_HZ, audio).astype(np.float32)
