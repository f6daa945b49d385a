"""From decoded audio frames to the project's audio: float32 mono at 16 kHz, in time with the picture."""

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

    64 kB a second of sound are held in memory.
    """

    def __init__(self) -> None:
        self._segments: list[tuple[Fraction, list[Audio]]] = []
        self._resampler: av.AudioResampler | None = None
        self._format: tuple[str, str, int] | None = None
        self._expected_s = Fraction(0)

    @property
    def start_s(self) -> Fraction | None:
        """Container time of the first sample; None while there is none."""
        return self._segments[0][0] if self._segments else None

    def add(self, frame: av.AudioFrame) -> None:
        """Append a decoded frame, at its own time where that leaves a hole."""
        rate, time_base = frame.sample_rate, frame.time_base
        kind = (frame.format.name, frame.layout.name, rate)
        time_s = self._expected_s if frame.pts is None or time_base is None else frame.pts * time_base
        if self._resampler is None or kind != self._format or abs(time_s - self._expected_s) > GAP_S:
            self._flush()
            self._resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ)
            self._format, self._expected_s = kind, time_s
            self._segments.append((time_s, []))
        self._expected_s += Fraction(frame.samples, rate)
        frame.pts = None
        self._collect(frame)

    def finish(self, origin_s: Fraction) -> Audio:
        """Return float32 [T] whose sample 0 is at container time `origin_s`.

        What comes earlier is cut, holes (and a late start) are zeros; the end is where the file's sound ends, be that
        before or after the picture's.
        """
        self._flush()
        pieces: list[Audio] = []
        filled = 0
        for start_s, chunks in self._segments:
            samples = np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
            at = round((start_s - origin_s) * SAMPLE_RATE_HZ)
            if at > filled:
                pieces.append(np.zeros(at - filled, np.float32))
            pieces.append(samples[max(0, filled - at) :])
            filled += sum(map(len, pieces[-2:] if at > filled else pieces[-1:]))
        # Lossy codecs overshoot full scale by a few per cent.
        return np.clip(np.concatenate(pieces), -1, 1) if pieces else np.zeros(0, np.float32)

    def _flush(self) -> None:
        if self._resampler is not None:
            self._collect(None)
            self._resampler = None

    def _collect(self, frame: av.AudioFrame | None) -> None:
        assert self._resampler is not None
        for resampled in self._resampler.resample(frame):
            self._segments[-1][1].append(resampled.to_ndarray().reshape(-1).astype(np.float32, copy=False))
