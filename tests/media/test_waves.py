"""Sound in pieces is the sound of the whole."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lt_eval.errors import UsageError
from lt_eval.media.waves import Resampler, from_pcm, pcm_bytes, read_wav, wav_bytes
from lt_eval.records import Audio


def tone(samples: int, rate_hz: int, pitch_hz: float = 300.0) -> Audio:
    return np.asarray(0.5 * np.sin(2 * np.pi * pitch_hz * np.arange(samples) / rate_hz), np.float32)


def test_a_wav_file_comes_back_to_within_one_step_of_16_bits() -> None:
    sound = tone(2400, 24_000)
    back, rate_hz = read_wav(wav_bytes(sound, 24_000))
    assert rate_hz == 24_000 and np.abs(back - sound).max() <= 0.5 / 32767 + 1e-7


def test_channels_are_averaged_and_other_chunks_are_passed_over() -> None:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.array([[1000, 3000], [-2000, 0]], "<i2").tobytes())
    data = buffer.getvalue()
    with_list = data[:12] + b"LIST" + (3).to_bytes(4, "little") + b"abc\0" + data[12:]
    sound, _ = read_wav(with_list)
    assert np.allclose(sound * 32767, [2000, -1000])


def test_a_streamed_header_may_state_any_length() -> None:
    data = bytearray(wav_bytes(tone(100, 16_000)))
    data[40:44] = b"\xff\xff\xff\xff"
    assert len(read_wav(bytes(data))[0]) == 100


@pytest.mark.parametrize("data", [b"", b"ID3\4" + b"x" * 50, wav_bytes(tone(9, 16_000))[:30]])
def test_what_is_no_wav_file_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="WAV"):
        read_wav(data)


def test_samples_of_an_odd_length_lose_half_a_sample_only() -> None:
    assert len(from_pcm(pcm_bytes(tone(5, 16_000)) + b"\x01")) == 5


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 900), min_size=1, max_size=12), st.sampled_from([(24_000, 16_000), (16_000, 24_000)]))
def test_pieces_resample_like_the_whole(lengths: list[int], rates: tuple[int, int]) -> None:
    sound = tone(sum(lengths), rates[0])
    ends = np.cumsum(lengths)
    pieces = np.split(sound, ends[:-1])
    streaming, offline = Resampler(*rates), Resampler(*rates)
    found = np.concatenate([*map(streaming.push, pieces), streaming.finish()])
    whole = np.concatenate([offline.push(sound), offline.finish()])
    assert len(found) == round(len(sound) * rates[1] / rates[0])
    assert np.allclose(found, whole, atol=1e-6)


def test_a_tone_keeps_its_pitch() -> None:
    resampler = Resampler(24_000, 16_000)
    found = np.concatenate([resampler.push(tone(24_000, 24_000)), resampler.finish()])
    assert np.abs(found - tone(16_000, 16_000))[100:-100].max() < 2e-3


def test_no_change_of_rate_changes_nothing() -> None:
    sound = tone(10, 16_000)
    assert Resampler(16_000, 16_000).push(sound) is sound


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 1 Hz"):
        Resampler(0, 16_000)
