"""Spectral features of audio: the MFCC that SyncNet hears.

Equal to `python_speech_features.mfcc(int16 samples, 16000)` with its defaults (jameslyons/python_speech_features 0.6,
MIT), which joonson/syncnet_python 6efbb1c calls: pre-emphasis 0.97, windows of 400 samples every 160 without taper,
512-point power spectrum, 26 triangular mel filters over 0..8000 Hz, orthonormal DCT-II, lifter 22, and coefficient 0
replaced by the logarithm of the window's energy.

Where the windows lie: row k covers samples 160 k .. 160 k + 399; what the last row lacks of them is zero. T samples
give

    1                               row for T <= 400
    1 + ceil((T - 400) / 160)       rows otherwise

so 640 samples a video frame at 25 fps are 4 rows, and T = 640 F samples give 4 F - 1 rows.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE_HZ = 16_000
WINDOW = 400
STEP = 160
COEFFICIENTS = 13

_FFT = 512
_FILTERS = 26
_EMPHASIS = 0.97
_LIFTER = 22
_TINY = np.finfo(np.float64).eps
"""Stands for zero energy, of which there is no logarithm."""


def pcm16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Return float samples in -1..1 as 16-bit PCM as ffmpeg does: times 32768, rounded (ties to even), clipped."""
    levels: NDArray[np.float32] = np.rint(samples * np.float32(32768)).clip(-32768, 32767)
    return levels.astype(np.int16)


def mfcc_rows(samples: int) -> int:
    """Return how many rows `mfcc` gives for a number of samples."""
    return 1 if samples <= WINDOW else 1 - (WINDOW - samples) // STEP


def mfcc(samples: NDArray[np.float32] | NDArray[np.int16]) -> NDArray[np.float32]:
    """Return the mel-frequency cepstral coefficients of mono audio at 16 kHz.

    Args:
        samples: [T], int16, or float in -1..1, which is made 16-bit first: the coefficients are those of int16 levels.

    Returns:
        float32 [F, 13]; F as the module says. Digital silence gives log(2.2e-16) = -36.04 in coefficient 0.

    Raises:
        ValueError: the audio is not one-dimensional, is empty, or is of another type.
    """
    if samples.ndim != 1 or not len(samples) or not (samples.dtype == np.int16 or samples.dtype.kind == "f"):
        raise ValueError(
            f"audio is {samples.dtype} {samples.shape}, the rule is int16 or float [T], mono, at least one sample."
        )
    levels = (samples if samples.dtype == np.int16 else pcm16(samples.astype(np.float32))).astype(np.float64)
    rows = mfcc_rows(len(levels))
    signal = np.zeros((rows - 1) * STEP + WINDOW)
    signal[0] = levels[0]
    signal[1 : len(levels)] = levels[1:] - _EMPHASIS * levels[:-1]
    windows = np.lib.stride_tricks.sliding_window_view(signal, WINDOW)[::STEP]  # [F, 400]
    spectrum = np.fft.rfft(windows, _FFT)
    power = (spectrum.real**2 + spectrum.imag**2) / _FFT  # [F, 257]
    energy = power.sum(axis=1)
    bands = power @ _mel_filters().T  # [F, 26]
    cepstra = np.log(np.where(bands == 0, _TINY, bands)) @ _lifted_dct().T  # [F, 13]
    cepstra[:, 0] = np.log(np.where(energy == 0, _TINY, energy))
    return cepstra.astype(np.float32)


@functools.cache
def _mel_filters() -> NDArray[np.float64]:
    """Return float64 [26, 257]: triangles whose corners are equally far apart in mel, cut to whole bins."""
    highest_mel = 2595 * np.log10(1 + RATE_HZ / 2 / 700.0)
    corners_hz = 700 * (10 ** (np.linspace(0, highest_mel, _FILTERS + 2) / 2595.0) - 1)
    corners = np.floor((_FFT + 1) * corners_hz / RATE_HZ)
    bins = np.arange(_FFT // 2 + 1)
    low, peak, high = (corners[offset : offset + _FILTERS, None] for offset in range(3))
    rising = (bins - low) / np.maximum(peak - low, 1)
    falling = (high - bins) / np.maximum(high - peak, 1)
    filters: NDArray[np.float64] = np.where(bins < peak, rising, falling) * ((bins >= low) & (bins < high))
    return filters


@functools.cache
def _lifted_dct() -> NDArray[np.float64]:
    """Return float64 [13, 26]: the first rows of the orthonormal DCT-II, each times its lifter."""
    order = np.arange(COEFFICIENTS)[:, None]
    basis: NDArray[np.float64] = np.cos(np.pi * order * (2 * np.arange(_FILTERS) + 1) / (2 * _FILTERS))
    basis *= np.sqrt(2 / _FILTERS)
    basis[0] /= np.sqrt(2)
    basis *= 1 + (_LIFTER / 2) * np.sin(np.pi * order / _LIFTER)
    return basis
