"""Logarithmic mel energies of the audio around a video frame: features without weights, and without memory.

Each row is a Hann window of 25 ms, its power spectrum over 512 points, triangular filters equally wide in mel over
0..8000 Hz, and ln(energy + 1e-5), shifted and scaled so that silence is about -1.6 and loud speech about 1. A video
frame has `rows` rows, 10 ms apart; the last one ends where the frame's audio (plus the look-ahead) ends.

A row depends on its 400 samples alone, and rows are always computed in batches of one latent frame: streamed and
whole-clip features are equal to the bit.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from lt_eval.generator.audio_config import AudioConfig
    from lt_eval.generator.timeline import Timeline
    from lt_eval.records import Audio

WINDOW_S, STEP_S = 0.025, 0.010
_FFT = 512
_FLOOR = 1e-5


class LogMel:
    """The features of `AudioConfig(kind="logmel")`."""

    def __init__(self, config: AudioConfig) -> None:
        self.config = config
        self._window = round(WINDOW_S * config.sample_rate_hz)
        self._step = round(STEP_S * config.sample_rate_hz)

    @property
    def left_samples(self) -> int:
        """How far before the end of a frame's audio (look-ahead included) its features reach."""
        return self._window + (self.config.rows - 1) * self._step

    def first_sample(self, frame: int, timeline: Timeline) -> int:
        """Return a sample before which `frame` and later ones need nothing, at the latest the frame's first."""
        reach = timeline.sample(frame + 1 + self.config.look_ahead_frames) - self.left_samples
        return min(reach, timeline.sample(frame))

    def encode(self, samples: Audio, start: int, frames: Sequence[int], timeline: Timeline) -> Tensor:
        """Return the features of video frames.

        Args:
            samples: float32 [T], what is known of the stream from sample `start` on; what is missing of it is silence.
            start: position of samples[0] in the stream.
            frames: video frames, four for every latent frame.
            timeline: of the stream.

        Returns:
            float32 [len(frames), rows * bands].
        """
        ends = [timeline.sample(frame + 1 + self.config.look_ahead_frames) - start for frame in frames]
        return torch.from_numpy(
            np.concatenate([self._latent(samples, ends[k : k + 4]) for k in range(0, len(ends), 4)])
        )

    def _latent(self, samples: Audio, ends: Sequence[int]) -> NDArray[np.float32]:
        pieces = np.stack([_slice(samples, end - self.left_samples, end) for end in ends])
        rows = np.lib.stride_tricks.sliding_window_view(pieces, self._window, axis=1)[:, :: self._step]
        taper, filters = _filters(self.config.sample_rate_hz, self._window, self.config.mel_bands)
        spectrum = np.fft.rfft(rows.astype(np.float64) * taper, _FFT)  # [frames, rows, 257]
        energy = (spectrum.real**2 + spectrum.imag**2) @ filters
        return ((np.log(energy + _FLOOR) + 5.0) / 4.0).astype(np.float32).reshape(len(ends), -1)


def _slice(samples: Audio, start: int, stop: int) -> Audio:
    """Return samples[start:stop], silence standing for what lies outside."""
    inside = samples[max(start, 0) : max(stop, 0)]
    before = min(max(-start, 0), stop - start)
    return np.pad(inside, (before, stop - start - before - len(inside))).astype(np.float32, copy=False)


@functools.cache
def _filters(rate_hz: int, window: int, bands: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the Hann window, of unit energy, and the filters, float64 [257, bands]."""
    taper = np.hanning(window + 2)[1:-1]
    corners = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate_hz / 2 / 700), bands + 2) / 2595) - 1)
    hertz = np.arange(_FFT // 2 + 1)[:, None] * rate_hz / _FFT
    bin_hz = rate_hz / _FFT  # low bands are narrower than that: each side of a triangle is at least as wide
    rising = (hertz - corners[:-2]) / np.maximum(np.diff(corners)[:-1], bin_hz)
    falling = (corners[2:] - hertz) / np.maximum(np.diff(corners)[1:], bin_hz)
    filters = np.clip(np.minimum(rising, falling), 0, 1)
    return taper / np.sqrt((taper**2).sum()), filters / 4
