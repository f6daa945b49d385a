from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.linalg import solve_toeplitz

from lt_eval.synthetic.lexicon import SENTENCES, utterance
from lt_eval.synthetic.phonemes import PHONEMES, SILENCE
from lt_eval.synthetic.speaker import Segment, Voice, make_voice
from lt_eval.synthetic.tracks import FADE_TICKS, RELEASE_S
from lt_eval.synthetic.voice import Speech, speak, synthesise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

LOW = Voice(pitch_hz=100.0, breathiness=0.1)
HIGH = Voice(pitch_hz=200.0, formant_scale=1.18, upper_scale=1.18, breathiness=0.3)
MONOPHTHONGS = [p.name for p in PHONEMES.values() if p.is_vowel and p.glide_to is None]


def _row(*sounds: tuple[str, float]) -> list[Segment]:
    """Segments back to back, stressed, between two silences of 0.1 s."""
    segments, at_s = [], 0.0
    for name, length_s in ((SILENCE, 0.1), *sounds, (SILENCE, 0.1)):
        segments.append(Segment(name, 1, at_s, round(at_s + length_s, 3)))
        at_s = segments[-1].end_s
    return segments


def _say(*sounds: tuple[str, float], voice: Voice = LOW) -> tuple[Array, list[Segment]]:
    segments = _row(*sounds)
    return synthesise(segments, voice, 0).astype(np.float64), segments


def _cut(audio: Array, start_s: float, end_s: float) -> Array:
    return audio[round(start_s * 16_000) : round(end_s * 16_000)]


def _level_db(samples: Array) -> float:
    return float(10 * np.log10(np.mean(samples**2) + 1e-12))


def _centroid_hz(samples: Array) -> float:
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    return float((np.fft.rfftfreq(len(samples), 1 / 16_000) * power).sum() / power.sum())


def _formants_hz(samples: Array, order: int = 18) -> Array:
    """Narrow poles of linear prediction by autocorrelation."""
    emphasised = (samples[1:] - 0.95 * samples[:-1]) * np.hamming(len(samples) - 1)
    correlation = np.correlate(emphasised, emphasised, "full")[len(emphasised) - 1 :][: order + 1]
    poles = np.roots(np.concatenate([[1.0], -solve_toeplitz(correlation[:-1], correlation[1:])]))
    poles = poles[poles.imag > 0]
    narrow = -np.log(np.abs(poles)) * 16_000 / np.pi < 500
    return np.sort(np.angle(poles[narrow]) * 16_000 / (2 * np.pi))


@pytest.fixture(scope="module")
def speech() -> Speech:
    return speak(utterance(SENTENCES[1]), LOW, 3)


@pytest.mark.parametrize("voice", [LOW, HIGH], ids=["low", "high"])
@pytest.mark.parametrize("name", MONOPHTHONGS)
def test_vowels_have_their_formants(name: str, voice: Voice) -> None:
    audio, _ = _say((name, 0.4), voice=voice)
    found = _formants_hz(_cut(audio, 0.2, 0.4))
    for number, target in enumerate(np.array(PHONEMES[name].formants) * voice.formant_scale):
        # Harmonics 200 Hz apart blur a first formant of 340 Hz.
        tolerance = 0.12 if number == 0 else 0.03
        assert np.abs(found - target).min() < tolerance * target, (number, target, found)


def test_vowels_differ_from_each_other() -> None:
    plane = {n: np.log(np.array(PHONEMES[n].formants)) for n in MONOPHTHONGS}
    nearest = min(float(np.abs(plane[a] - plane[b]).max()) for a in MONOPHTHONGS for b in MONOPHTHONGS if a < b)
    assert nearest > 0.08


def test_diphthongs_move() -> None:
    audio, _ = _say(("AY", 0.3))
    early, late = _formants_hz(_cut(audio, 0.13, 0.20)), _formants_hz(_cut(audio, 0.34, 0.39))
    assert early[0] > late[0] + 150
    assert early[1] + 400 < late[1]


def test_pitch_is_the_voices() -> None:
    for pitch_hz in (90.0, 140.0, 230.0):
        voice = Voice(pitch_hz=pitch_hz, pitch_range=0.0, jitter=0.0)
        audio, _ = _say(("AA", 0.4), voice=voice)
        vowel = _cut(audio, 0.15, 0.45)
        correlation = np.correlate(vowel, vowel, "full")[len(vowel) :]
        shortest = int(16_000 / 320)
        period = shortest + 1 + int(np.argmax(correlation[shortest : int(16_000 / 70)]))
        assert 16_000 / period == pytest.approx(pitch_hz, rel=0.03)


def test_fricatives_hiss_where_they_should() -> None:
    centroids = {}
    for name in ("S", "SH", "F", "TH", "Z", "V"):
        audio, _ = _say(("AA", 0.15), (name, 0.15), ("AA", 0.15))
        centroids[name] = _centroid_hz(_cut(audio, 0.28, 0.38))
    audio, _ = _say(("AA", 0.4))
    vowel_hz = _centroid_hz(_cut(audio, 0.2, 0.4))
    assert centroids["S"] > 5000 > centroids["SH"] > 2500 > 1500 > vowel_hz
    assert min(centroids["F"], centroids["TH"]) > 3000
    assert centroids["Z"] < centroids["S"]
    assert centroids["V"] < 1500


@pytest.mark.parametrize("name", ["P", "T", "K"])
def test_voiceless_stops_are_silence_then_a_burst(name: str) -> None:
    audio, segments = _say(("AA", 0.2), (name, 0.1), ("AA", 0.2))
    stop = segments[2]
    vowel_db = _level_db(_cut(audio, 0.15, 0.25))
    closure_db = _level_db(_cut(audio, stop.start_s + 0.035, stop.end_s - RELEASE_S - 0.004))
    burst_db = _level_db(_cut(audio, stop.end_s - RELEASE_S, stop.end_s))
    assert closure_db < vowel_db - 35
    assert burst_db > closure_db + 15


def test_voiced_stops_murmur_and_start_the_voice_at_once() -> None:
    levels, onsets = {}, {}
    for name in ("B", "P"):
        audio, segments = _say(("AA", 0.2), (name, 0.1), ("AA", 0.2))
        stop = segments[2]
        levels[name] = _level_db(_cut(audio, stop.start_s + 0.035, stop.end_s - RELEASE_S - 0.004))
        onsets[name] = _level_db(_cut(audio, stop.end_s + 0.01, stop.end_s + 0.03))
    assert levels["B"] > levels["P"] + 10
    assert onsets["B"] > onsets["P"] + 6


def test_nasals_are_murmurs_below_1_khz() -> None:
    audio, _ = _say(("AA", 0.2), ("M", 0.15), ("AA", 0.2))
    assert _centroid_hz(_cut(audio, 0.33, 0.42)) < 500


def test_silence_is_silent(speech: Speech) -> None:
    pauses = [s for s in speech.segments if s.phoneme == SILENCE]
    assert len(pauses) >= 2
    for pause in pauses:
        assert not _cut(speech.audio.astype(np.float64), pause.start_s + FADE_TICKS / 500, pause.end_s).any()
    assert speech.audio.any()


def test_segments_lie_back_to_back_and_end_with_the_audio(speech: Speech) -> None:
    assert speech.segments[0].start_s == 0
    for before, after in zip(speech.segments, speech.segments[1:], strict=False):
        assert before.end_s == after.start_s > before.start_s
    assert round(speech.segments[-1].end_s * 16_000) == len(speech.audio)


def test_segments_spell_the_sentence(speech: Speech) -> None:
    said = [s.phoneme for s in speech.segments if s.phoneme != SILENCE]
    written = [p.rstrip("012") for p in utterance(SENTENCES[1]).phonemes if p != SILENCE]
    assert said == written


def test_same_arguments_same_samples(speech: Speech) -> None:
    again = speak(utterance(SENTENCES[1]), LOW, 3)
    assert np.array_equal(again.audio, speech.audio)
    assert again.segments == speech.segments
    other = speak(utterance(SENTENCES[1]), LOW, 4)
    assert other.segments != speech.segments


def test_samples_lie_on_the_16_bit_grid_within_range(speech: Speech) -> None:
    steps = speech.audio.astype(np.float64) * 32767
    assert np.abs(steps - np.rint(steps)).max() < 0.01
    assert 0.2 < np.abs(speech.audio).max() <= 0.95


def test_all_voices_speak_equally_loud() -> None:
    rng = np.random.default_rng(0)
    levels = [_level_db(synthesise(_row(("AA", 0.4)), make_voice(rng), 0).astype(np.float64)) for _ in range(8)]
    assert max(levels) - min(levels) < 4


def test_faster_voice_needs_less_time() -> None:
    slow, fast = (speak(utterance("Yes, we will see."), Voice(rate=rate), 0) for rate in (0.8, 1.2))
    assert len(fast.audio) < 0.85 * len(slow.audio)
