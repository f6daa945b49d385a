from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lt_eval.media.spectra import mfcc, mfcc_rows, pcm16
from tests.metrics.upstream import parity_script


def noise(samples: int, seed: int = 0) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-9000, 9000, samples).astype(np.int16)


def test_equal_to_the_public_package() -> None:
    script = parity_script("sync")
    (found,) = script.against_mfcc(script.load_upstream(script.default_packages()))
    assert found.holds, found


@settings(max_examples=60, deadline=None)
@given(samples=st.integers(1, 3000))
def test_the_number_of_rows_follows_from_the_samples(samples: int) -> None:
    rows = mfcc(noise(samples))
    assert rows.shape == (mfcc_rows(samples), 13)
    assert rows.dtype == np.float32
    # the last row begins within the signal and reaches its end
    start = 160 * (len(rows) - 1)
    assert start < samples <= start + 400


@pytest.mark.parametrize("frames", [6, 25, 125])
def test_a_frame_at_25_fps_is_four_rows_less_one_at_the_end(frames: int) -> None:
    assert mfcc_rows(640 * frames) == 4 * frames - 1


def test_samples_missing_in_the_last_row_are_zero() -> None:
    short = noise(500)
    # the pre-emphasised signal is padded, not the signal: the sample after the end would be -0.97 times the last
    short[-1] = 0
    np.testing.assert_array_equal(mfcc(short), mfcc(np.pad(short, (0, 60))))


def test_energy_of_an_impulse_in_closed_form() -> None:
    impulse = np.zeros(400, np.int16)
    impulse[100] = 1000
    # |1 - 0.97 exp(-jw)|^2 summed over 257 bins, whose cosines add to nothing, over the length of the transform
    expected = np.log(1000**2 * 257 * (1 + 0.97**2) / 512)
    assert mfcc(impulse)[0, 0] == pytest.approx(expected, abs=1e-5)


def test_gain_changes_the_first_coefficient_only() -> None:
    quiet = noise(4000)
    difference = mfcc((quiet * 2).astype(np.int16)) - mfcc(quiet)
    np.testing.assert_allclose(difference[:, 0], np.log(4), atol=1e-4)
    np.testing.assert_allclose(difference[:, 1:], 0, atol=1e-4)


def test_digital_silence_has_the_least_energy_and_no_shape() -> None:
    rows = mfcc(np.zeros(1000, np.int16))
    np.testing.assert_allclose(rows[:, 0], np.log(np.finfo(np.float64).eps), rtol=1e-6)
    np.testing.assert_allclose(rows[:, 1:], 0, atol=1e-4)


def test_a_row_later_in_time_is_a_row_later() -> None:
    # but for the first row, whose first sample has none before it
    np.testing.assert_array_equal(mfcc(noise(4000)[160:])[1:], mfcc(noise(4000))[2:])


def test_float_samples_are_made_16_bit() -> None:
    samples = noise(2000)
    np.testing.assert_array_equal(mfcc((samples / 32768).astype(np.float32)), mfcc(samples))


def test_pcm16_rounds_to_the_nearest_even_and_clips() -> None:
    samples = (np.array([0.5, 1.5, -0.5, 32767.4, 40000, -40000]) / 32768).astype(np.float32)
    assert pcm16(samples).tolist() == [0, 2, 0, 32767, 32767, -32768]


@pytest.mark.parametrize("audio", [np.zeros(0, np.int16), np.zeros((2, 100), np.float32), np.zeros(100, np.int32)])
def test_what_is_no_mono_audio_is_refused(audio: NDArray[np.int16]) -> None:
    with pytest.raises(ValueError, match="the rule is int16 or float"):
        mfcc(audio)
