"""From decoded audio frames to the project's audio: float32 mono, 16 kHz unless told, in time with the picture."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np

from lt_eval.records import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from lt_eval.records import Audio

GAP_S = Fraction(1, 100)
"""Timestamps that disagree with the sample count by more than this mean a hole. Matroska's are rounded to 1 ms."""


class Soundtrack:
    """Collects decoded audio frames and resamples them as they come (libswresample; channels are averaged).

    64 kB a second of sound at 16 kHz are held in memory.

    Args:
        rate_hz: of the samples that come out.
    """

    def __init__(self, rate_hz: int = SAMPLE_RATE_HZ) -> None:
        self._rate_hz = rate_hz
        self._segments: list[tuple[Fraction, Audio]] = []
        self._chunks: list[Audio] = []
        self._resampler: av.AudioResampler | None = None
        self._format: tuple[str, str, int] | None = None
        self._start_s = self._expected_s = self._padding_s = Fraction(0)

    @property
    def start_s(self) -> Fraction | None:
        """Container time of the first sample; None while there is none."""
        if self._segments:
            return self._segments[0][0]
        return self._start_s if self._resampler else None

    def add(self, frame: av.AudioFrame) -> None:
        """Append a decoded frame, at its own time where that leaves a hole."""
        rate, time_base = frame.sample_rate, frame.time_base
        kind = (frame.format.name, frame.layout.name, rate)
        time_s = self._expected_s if frame.pts is None or time_base is None else frame.pts * time_base
        if self._resampler is None or kind != self._format or abs(time_s - self._expected_s) > GAP_S:
            self._flush()
            self._resampler = av.AudioResampler(format="flt", layout=frame.layout, rate=self._rate_hz)
            self._format, self._start_s, self._expected_s = kind, time_s, time_s
        self._expected_s += Fraction(frame.samples, rate)
        # The last AAC frame is filled up to 1024 samples; its length in exact ticks says how many were meant.
        exact = time_base == Fraction(1, rate) and 0 < frame.duration < frame.samples
        self._padding_s = Fraction(frame.samples - frame.duration, rate) if exact else Fraction(0)
        frame.pts = None
        self._collect(frame)

    def finish(self, origin_s: Fraction) -> Audio:
        """Return float32 [T] whose sample 0 is at container time `origin_s`.

        What comes earlier is cut, holes (and a late start) are zeros; the end is where the file's sound ends, be that
        before or after the picture's. Lossy codecs overshoot full scale by a few per cent: it is clipped to -1..1.
        """
        self._flush()
        pieces: list[Audio] = []
        filled = 0
        for start_s, samples in self._segments:
            at = round((start_s - origin_s) * self._rate_hz)
            hole = np.zeros(max(0, at - filled), np.float32)
            heard = samples[max(0, filled - at) :]
            pieces += [hole, heard] if len(heard) else []
            filled += len(hole) + len(heard) if len(heard) else 0
        return np.clip(np.concatenate(pieces), -1, 1) if pieces else np.zeros(0, np.float32)

    def _flush(self) -> None:
        if self._resampler is None:
            return
        self._collect(None)
        samples = np.concatenate([np.zeros(0, np.float32), *self._chunks])
        meant = round((self._expected_s - self._padding_s - self._start_s) * self._rate_hz)
        self._segments.append((self._start_s, samples[:meant]))
        self._chunks, self._resampler = [], None

    def _collect(self, frame: av.AudioFrame | None) -> None:
        assert self._resampler is not None
        for resampled in self._resampler.resample(frame):
            # Interleaved: of planar sound in 8 channels and more, av 18 reads a plane too many, which ends the process.
            channels = resampled.to_ndarray().reshape(-1, resampled.layout.nb_channels).T
            # Not libswresample's downmix: in floating point that is louder by 3 dB than the mean.
            self._chunks.append(np.ascontiguousarray(channels).mean(axis=0, dtype=np.float32))
