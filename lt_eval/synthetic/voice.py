"""A formant synthesiser: phonemes in, 16 kHz speech and the exact time of every phoneme out.

After Klatt (1980) and Klatt & Klatt (1990): a KLGLOTT88 glottal source and breath through a cascade of resonators with
a nasal pole and zero, and noise of frication and bursts in parallel. A function of (segments, voice, seed) alone;
samples lie on the 16-bit grid, so that rounding differences between machines seldom show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import signal

from lt_eval.records import SAMPLE_RATE_HZ
from lt_eval.synthetic.phonemes import BANDWIDTHS_HZ, PHONEMES, SILENCE, UPPER_FORMANTS_HZ
from lt_eval.synthetic.speaker import TICK_HZ, Segment, plan
from lt_eval.synthetic.tracks import RELEASE_S, make_tracks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator
    from numpy.typing import NDArray

    from lt_eval.records import Audio
    from lt_eval.synthetic.lexicon import Utterance
    from lt_eval.synthetic.phonemes import Band
    from lt_eval.synthetic.speaker import Voice
    from lt_eval.synthetic.tracks import Tracks

    Array = NDArray[np.float64]

_STEP = SAMPLE_RATE_HZ // TICK_HZ
_OVERSAMPLING = 4
"""Of the glottal pulses, whose sharp closure would alias at 16 kHz."""

_NASAL_POLE_HZ, _NASAL_ZERO_HZ = 270.0, 460.0
_BREATH_GAIN = 0.10
_LOUDNESS = 0.09
"""Root mean square of the voiced parts of every clip."""


@dataclass(frozen=True)
class Speech:
    """Spoken audio, float32 [T] at 16 kHz, and its segments, back to back from 0 to the end of the audio."""

    audio: Audio
    segments: tuple[Segment, ...]


def _glottal_source(pitch_hz: Array, voice: Voice, rng: Generator) -> tuple[Array, Array]:
    """Return the derivative of the glottal flow (KLGLOTT88) and where the glottis is open, at 16 kHz."""
    ticks = len(pitch_hz)
    per_tick = _STEP * _OVERSAMPLING
    wobble = 1.0 + voice.jitter * np.convolve(rng.standard_normal(ticks), [0.25, 0.5, 0.25], "same")
    pitch = np.interp(np.arange(ticks * per_tick) / per_tick, np.arange(ticks), pitch_hz * wobble)
    phase = np.cumsum(pitch / (SAMPLE_RATE_HZ * _OVERSAMPLING))
    cycle = phase.astype(np.int64)
    open_quotient = 0.55 + 0.25 * voice.breathiness
    x = (phase - cycle) / open_quotient
    loudness = 1.0 + voice.shimmer * rng.standard_normal(int(cycle[-1]) + 1)
    flow = np.where(x < 1.0, 2.0 * x - 3.0 * x * x, 0.0) * loudness[cycle]
    source = signal.resample_poly(flow, 1, _OVERSAMPLING)
    tilt = np.exp(-2 * np.pi * (4200.0 - 2800.0 * voice.breathiness) / SAMPLE_RATE_HZ)
    return signal.lfilter([1.0 - tilt], [1.0, -tilt], source), (x < 1.0)[::_OVERSAMPLING].astype(np.float64)


def _resonators(frequency_hz: Array, bandwidth_hz: Array) -> Array:
    """Klatt's digital resonators of unit gain at 0 Hz, as second-order sections [..., 6]."""
    c = -np.exp(-2 * np.pi * bandwidth_hz / SAMPLE_RATE_HZ)
    b = 2 * np.exp(-np.pi * bandwidth_hz / SAMPLE_RATE_HZ) * np.cos(2 * np.pi * frequency_hz / SAMPLE_RATE_HZ)
    a, zero, one = 1.0 - b - c, np.zeros_like(b), np.ones_like(b)
    return np.stack([a, zero, zero, one, -b, -c], -1)


def _cascade(tracks: Tracks, voice: Voice) -> Array:
    """Second-order sections [ticks, 9, 6] of the vocal tract: seven formants, nasal pole, nasal zero."""
    ticks = len(tracks.gate)
    upper = np.repeat(np.array(UPPER_FORMANTS_HZ)[:, None] * voice.upper_scale, ticks, 1)
    frequencies = np.minimum(np.concatenate([tracks.formants_hz * voice.formant_scale, upper]), 7700.0)
    bandwidths = np.repeat(np.array(BANDWIDTHS_HZ)[:, None], ticks, 1) * (1.0 + 0.4 * voice.breathiness)
    bandwidths[0] += 180.0 * tracks.breath + 60.0 * tracks.nasality
    bandwidths[1] += 40.0 * tracks.breath + 40.0 * tracks.nasality
    poles = _resonators(frequencies, bandwidths)
    nasal_pole = _resonators(np.full(ticks, _NASAL_POLE_HZ), np.full(ticks, 90.0))
    zero_hz = _NASAL_POLE_HZ + (_NASAL_ZERO_HZ - _NASAL_POLE_HZ) * tracks.nasality
    inverse = _resonators(zero_hz, np.full(ticks, 90.0))
    nasal_zero = np.zeros_like(inverse)
    nasal_zero[:, :3] = inverse[:, 3:] / inverse[:, :1]
    nasal_zero[:, 3] = 1.0
    return np.stack([nasal_zero, nasal_pole, *poles], 1)


def _filter_by_tick(excitation: Array, sections: Array) -> Array:
    """Run the excitation through sections that change every tick, keeping their state."""
    output = np.empty_like(excitation)
    state = np.zeros((sections.shape[1], 2))
    for tick, section in enumerate(sections):
        span = slice(tick * _STEP, (tick + 1) * _STEP)
        output[span], state = signal.sosfilt(section, excitation[span], zi=state)
    return output


def _coloured_noise(bands: Sequence[Band], scale: float, samples: int, rng: Generator) -> Array:
    """White noise through parallel resonances, at unit root mean square."""
    white = rng.standard_normal(samples + 64)
    white = np.diff(white, prepend=0.0)
    total = np.zeros(samples + 64)
    for band in bands:
        centre = min(band.centre_hz * scale, 7600.0)
        radius = np.exp(-np.pi * band.bandwidth_hz / SAMPLE_RATE_HZ)
        poles = [1.0, -2 * radius * np.cos(2 * np.pi * centre / SAMPLE_RATE_HZ), radius * radius]
        resonance = signal.lfilter([1.0, 0.0, -1.0], poles, white)
        total += band.gain * resonance / np.sqrt(np.mean(resonance**2))
    total = total[64:]
    return np.asarray(total / np.sqrt(np.mean(total**2)))


def _envelope(kind: str, samples: int, tail: int) -> Array:
    """Loudness of the noise over a segment and `tail` samples after it: a burst, or a swell."""
    envelope = np.zeros(samples + tail)
    ramp = SAMPLE_RATE_HZ * 14 // 1000
    if kind == "stop":
        burst = max(0, samples - round(RELEASE_S * SAMPLE_RATE_HZ))
        after_s = np.arange(len(envelope) - burst) / SAMPLE_RATE_HZ
        envelope[burst:] = np.exp(-after_s / 0.007)
    else:
        begin = round(0.45 * samples) if kind == "affricate" else 0
        rise = ramp // 4 if kind == "affricate" else ramp
        envelope[begin:samples] = 1.0
        envelope[begin : begin + rise] *= np.linspace(0.0, 1.0, rise)
        envelope[samples - ramp : samples] *= np.linspace(1.0, 0.35, ramp)
        envelope[samples:] = np.linspace(0.35, 0.0, tail)
    return envelope


def _frication(segments: Sequence[Segment], samples: int, scale: float, opening: Array, rng: Generator) -> Array:
    """Noise of fricatives, affricates and bursts over the whole utterance, relative to a vowel of unit level."""
    total = np.zeros(samples)
    tail = SAMPLE_RATE_HZ * 24 // 1000
    for index, segment in enumerate(segments):
        phoneme = PHONEMES[segment.phoneme]
        if not phoneme.noise:
            continue
        start, end = round(segment.start_s * SAMPLE_RATE_HZ), round(segment.end_s * SAMPLE_RATE_HZ)
        rounding = PHONEMES[segments[index + 1].phoneme].mouth.rounding if index + 1 < len(segments) else 0.0
        noise = _coloured_noise(phoneme.noise, scale * (1.0 - 0.12 * rounding), end - start + tail, rng)
        noise *= _envelope(phoneme.kind, end - start, tail) * 10.0 ** (phoneme.noise_db / 20.0)
        span = slice(start, min(end + tail, samples))
        noise = noise[: span.stop - start]
        if phoneme.voicing and phoneme.kind == "fricative":
            noise *= 0.4 + 1.2 * opening[span]
        total[span] += noise
    return total


def _with_silence(segments: Sequence[Segment], total_s: float) -> list[Segment]:
    """Fill what lies before and after the planned segments with SIL."""
    filled = list(segments)
    if not filled or filled[0].start_s > 0:
        filled.insert(0, Segment(SILENCE, 0, 0.0, filled[0].start_s if filled else total_s))
    if filled[-1].end_s < total_s:
        filled.append(Segment(SILENCE, 0, filled[-1].end_s, total_s))
    return filled


def synthesise(segments: Sequence[Segment], voice: Voice, seed: int, *, question: bool = False) -> Audio:
    """Return the sound of segments that lie back to back from 0: float32 [T] on the 16-bit grid, at 16 kHz."""
    rng = np.random.Generator(np.random.PCG64([seed, 1]))
    ticks = round(segments[-1].end_s * TICK_HZ)
    tracks = make_tracks(segments, ticks, voice, rng, question=question)
    source, opening = _glottal_source(tracks.pitch_hz, voice, rng)
    breath = rng.standard_normal(ticks * _STEP) * (0.35 + 0.65 * opening)
    per_sample = np.arange(ticks * _STEP) / _STEP - 0.5
    voicing, bar, aspiration, gate = (
        np.interp(per_sample, np.arange(ticks), track)
        for track in (tracks.voicing, tracks.bar, tracks.breath, tracks.gate)
    )
    gate = gate * np.repeat(tracks.gate > 0, _STEP)
    low = np.exp(-2 * np.pi * 220.0 / SAMPLE_RATE_HZ)
    murmur = signal.lfilter([(1 - low) ** 2], [1.0, -2 * low, low * low], source)
    noise = (
        _BREATH_GAIN * (aspiration + 0.25 * voice.breathiness * voicing) * signal.lfilter([1.0, -0.6], [1.0], breath)
    )
    voiced = _filter_by_tick(voicing * source + 3.0 * bar * murmur + noise, _cascade(tracks, voice))
    loud = voicing > 0.5
    level = np.sqrt(np.mean(voiced[loud] ** 2)) if loud.any() else 1.0
    frication = _frication(segments, len(voiced), voice.formant_scale**0.5, opening, rng)
    mixed = np.tanh((voiced / level + frication) * gate * _LOUDNESS / 0.9) * 0.9
    return (np.round(mixed * 32767.0) / 32767.0).astype(np.float32)


def speak(utterance: Utterance, voice: Voice, seed: int = 0, *, lead_s: float = 0.2, tail_s: float = 0.3) -> Speech:
    """Say an utterance between two silences. The same arguments give the same samples."""
    rng = np.random.Generator(np.random.PCG64([seed, 0]))
    planned = plan(utterance, voice.rate, rng, lead_s)
    segments = _with_silence(planned, round((planned[-1].end_s + tail_s) * TICK_HZ) / TICK_HZ)
    return Speech(synthesise(segments, voice, seed, question=utterance.question), tuple(segments))
