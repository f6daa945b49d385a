"""The control tracks of the synthesiser: what the vocal tract does, 500 times a second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lt_eval.synthetic.phonemes import PHONEMES, SILENCE, Formants
from lt_eval.synthetic.speaker import TICK_HZ

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator
    from numpy.typing import NDArray

    from lt_eval.synthetic.phonemes import Phoneme
    from lt_eval.synthetic.speaker import Segment, Voice

    Array = NDArray[np.float64]

_SCHWA = Formants(510.0, 1450.0, 2480.0)
_TRANSITION_S = 0.045
"""How long formants move between an obstruent and a vowel (Klatt 1980)."""

RELEASE_S = 0.012
"""A stop's burst begins this long before the end of its segment."""

FADE_TICKS = 12
"""Sound dies away in the first 24 ms of a silence and is zero from there on."""


@dataclass(frozen=True)
class Tracks:
    """One value a tick; formants [3, ticks] in Hz, pitch in Hz, all others 0..1.

    `bar` is the low murmur behind closed lips, `breath` the noise of an open glottis, `gate` zero in silence.
    """

    formants_hz: Array
    pitch_hz: Array
    voicing: Array
    bar: Array
    breath: Array
    nasality: Array
    gate: Array


def smooth(track: Array, ticks: int) -> Array:
    """Smooth along the last axis with a Hann window of that many ticks, odd, holding the ends."""
    window = np.hanning(ticks + 2)[1:-1]
    window /= window.sum()
    padded = np.concatenate(
        [np.repeat(track[..., :1], ticks // 2, -1), track, np.repeat(track[..., -1:], ticks // 2, -1)], -1
    )
    return np.apply_along_axis(np.convolve, -1, padded, window, "valid")


def _edges(phoneme: Phoneme, stress: int) -> tuple[Array, Array]:
    """Return the formants at the start and at the end of a vowel; unstressed ones drift towards schwa."""
    reduction = 0.0 if stress else (0.7 if phoneme.name == "AH" else 0.25)
    pair = (phoneme.formants, phoneme.glide_to[0] if phoneme.glide_to else phoneme.formants)
    start, end = (np.log((1 - reduction) * np.array(f) + reduction * np.array(_SCHWA)) for f in pair)
    return start, end


def _neighbouring_vowel(segments: Sequence[Segment], index: int) -> Array | None:
    """Formants of the nearest edge of the nearest vowel, the following one preferred."""
    for distance in (1, 2, 3):
        for step, edge in ((distance, 0), (-distance, 1)):
            if 0 <= index + step < len(segments):
                phoneme = PHONEMES[segments[index + step].phoneme]
                if phoneme.is_vowel:
                    return _edges(phoneme, segments[index + step].stress)[edge]
    return None


def _formant_tracks(segments: Sequence[Segment], times_s: Array) -> Array:
    """Interpolate log formants between targets; consonants yield to their vowels (locus equations)."""
    knots: list[tuple[float, Array]] = []
    for index, segment in enumerate(segments):
        phoneme, length_s = PHONEMES[segment.phoneme], segment.end_s - segment.start_s
        if phoneme.is_vowel:
            start, end = _edges(phoneme, segment.stress)
            edge_s = min(_TRANSITION_S, 0.38 * length_s)
            knots.append((segment.start_s + edge_s, start))
            if phoneme.glide_to and 0.45 * length_s > edge_s:
                knots.append((segment.start_s + 0.45 * length_s, 0.85 * start + 0.15 * end))
            knots.append((segment.end_s - edge_s, end))
            continue
        target = np.log(np.array(phoneme.formants))
        vowel = _neighbouring_vowel(segments, index)
        if vowel is not None:
            target = (1 - phoneme.coarticulation) * target + phoneme.coarticulation * vowel
        inset_s = 0.3 * length_s if phoneme.kind == "glide" else 0.002
        knots += [(segment.start_s + inset_s, target), (segment.end_s - inset_s, target)]
    at = np.array([time for time, _ in knots])
    values = np.stack([value for _, value in knots], 1)
    return np.exp(smooth(np.stack([np.interp(times_s, at, value) for value in values]), 11))


def _phrases(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Split at silences."""
    phrases: list[list[Segment]] = [[]]
    for segment in segments:
        if segment.phoneme == SILENCE:
            phrases.append([])
        else:
            phrases[-1].append(segment)
    return [phrase for phrase in phrases if phrase]


def _span(start_s: float, end_s: float) -> slice:
    """Ticks between two times."""
    return slice(max(0, round(start_s * TICK_HZ)), max(0, round(end_s * TICK_HZ)))


def _pitch_track(segments: Sequence[Segment], times_s: Array, voice: Voice, question: bool, rng: Generator) -> Array:
    """Declination over each phrase, a bump on each stressed vowel, a fall (or a question's rise) at the end."""
    pitch = np.full(len(times_s), 1.0)
    phrases = _phrases(segments)
    for number, phrase in enumerate(phrases):
        start_s, end_s = phrase[0].start_s, phrase[-1].end_s
        inside = _span(start_s - 0.1, end_s + 0.1)
        pitch[inside] = 1.0 + voice.pitch_range * 0.22 * (0.5 - (times_s[inside] - start_s) / (end_s - start_s))
        vowels = [segment for segment in phrase if PHONEMES[segment.phoneme].is_vowel]
        for vowel in vowels:
            height = voice.pitch_range * (0.12 + 0.22 * rng.random())
            if vowel.stress == 1:
                centre_s = vowel.start_s + 0.4 * (vowel.end_s - vowel.start_s)
                near = _span(centre_s - 0.5, centre_s + 0.5)
                pitch[near] += height * np.exp(-0.5 * ((times_s[near] - centre_s) / 0.075) ** 2)
        if vowels:
            last = vowels[-1]
            swing = 0.45 if question and number + 1 == len(phrases) else -0.22
            near = _span(last.start_s, end_s + 0.05)
            pitch[near] += (
                voice.pitch_range * swing * np.minimum((times_s[near] - last.start_s) / (end_s - last.start_s), 1.0)
            )
    return voice.pitch_hz * smooth(pitch, 21)


def make_tracks(
    segments: Sequence[Segment], ticks: int, voice: Voice, rng: Generator, *, question: bool = False
) -> Tracks:
    """Return the tracks of a planned utterance over `ticks` ticks; formants are not yet scaled to the voice."""
    times_s = (np.arange(ticks) + 0.5) / TICK_HZ
    voicing, bar, breath, nasality = (np.zeros(ticks) for _ in range(4))
    gate = np.ones(ticks)
    previous: Phoneme | None = None
    for segment in segments:
        phoneme = PHONEMES[segment.phoneme]
        start, end = round(segment.start_s * TICK_HZ), round(segment.end_s * TICK_HZ)
        if phoneme.kind in ("stop", "affricate"):
            bar[start:end] = phoneme.voicing
        elif phoneme.kind == "fricative":
            voicing[start:end], bar[start:end] = 0.35 * phoneme.voicing, 0.8 * phoneme.voicing
        elif phoneme.kind == "aspirate":
            breath[start:end] = 1.0
        elif phoneme.kind == "silence":
            gate[start:end] = 0.0
            fade = min(FADE_TICKS, end - start)
            gate[start : start + fade] = np.linspace(1.0, 0.0, FADE_TICKS)[:fade]
        else:
            voicing[start:end] = phoneme.voicing * (1.0 if segment.stress or not phoneme.is_vowel else 0.7)
            nasality[start:end] = phoneme.kind == "nasal"
            if previous is not None and previous.aspiration_s:
                late = start + min(round(previous.aspiration_s * TICK_HZ), (end - start) // 2)
                voicing[start:late], breath[start:late] = 0.0, 0.8
        previous = phoneme
    return Tracks(
        formants_hz=_formant_tracks(segments, times_s),
        pitch_hz=_pitch_track(segments, times_s, voice, question, rng),
        voicing=smooth(voicing, 9),
        bar=smooth(bar, 7),
        breath=smooth(breath, 9),
        nasality=smooth(nasality, 15),
        gate=gate,
    )
