"""Sound in small pieces: WAV bytes in and out, and a change of rate that goes on from piece to piece."""

from __future__ import annotations

import io
import wave
from typing import TYPE_CHECKING

import numpy as np

from lt_eval.errors import UsageError
from lt_eval.records import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import av

    from lt_eval.records import Audio


def wav_bytes(audio: Audio, rate_hz: int = SAMPLE_RATE_HZ) -> bytes:
    """Return a WAV file, 16-bit mono, of float32 [T] in -1..1; what is beyond is clipped."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(pcm_bytes(audio))
    return buffer.getvalue()


def pcm_bytes(audio: Audio) -> bytes:
    """Return 16-bit little-endian samples of float32 [T] in -1..1."""
    return np.rint(np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes()


def from_pcm(data: bytes) -> Audio:
    """Return float32 [T] of 16-bit little-endian samples; an odd last byte is dropped."""
    return np.asarray(np.frombuffer(data[: len(data) & ~1], "<i2").astype(np.float32) / 32767.0, np.float32)


def read_wav(data: bytes) -> tuple[Audio, int]:
    """Return float32 [T] mono and its rate in Hz from a WAV file of 16-bit samples, channels averaged.

    A header that states more bytes than there are, as streaming servers write it, is no error.

    Raises:
        ValueError: it is no such file.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError("not a WAV file")
    at, rate_hz, channels = 12, 0, 0
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body = data[at + 8 : at + 8 + size]
        if name == b"fmt ":
            kind, channels = int.from_bytes(body[:2], "little"), int.from_bytes(body[2:4], "little")
            rate_hz, bits = int.from_bytes(body[4:8], "little"), int.from_bytes(body[14:16], "little")
            if kind not in (1, 0xFFFE) or bits != 16 or channels < 1 or rate_hz < 1:
                raise ValueError(f"WAV of format {kind} with {bits} bits and {channels} channels, not 16-bit samples")
        elif name == b"data":
            if not rate_hz:
                break
            samples = from_pcm(body[: len(body) // (2 * channels) * 2 * channels])
            return samples.reshape(-1, channels).mean(axis=1, dtype=np.float32), rate_hz
        at += 8 + size + size % 2
    raise ValueError("a WAV file without samples")


class Resampler:
    """Changes the rate of sound that comes in pieces (libswresample); all pieces together are as long as the whole.

    Args:
        from_hz: rate of what comes.
        to_hz: rate of what leaves.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        if from_hz < 1 or to_hz < 1:
            raise UsageError(f"{from_hz} and {to_hz} Hz: sample rates must be at least 1 Hz.")
        self._from_hz, self._to_hz = from_hz, to_hz
        self._taken = self._given = 0
        self._resampler: av.AudioResampler | None = None

    def push(self, audio: Audio) -> Audio:
        """Take float32 [T] and return what is ready of it."""
        if self._from_hz == self._to_hz or len(audio) == 0:
            return audio
        import av

        if self._resampler is None:
            self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=self._to_hz)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio, np.float32)[None], format="fltp", layout="mono")
        frame.sample_rate = self._from_hz
        self._taken += len(audio)
        return self._counted(frame)

    def finish(self) -> Audio:
        """Return the rest; the resampler is as new afterwards."""
        if self._resampler is None:
            return np.zeros(0, np.float32)
        meant = max(0, round(self._taken * self._to_hz / self._from_hz) - self._given)
        rest = self._counted(None)[:meant]
        rest = np.pad(rest, (0, meant - len(rest)))  # libswresample may lack the very last sample
        self._resampler, self._taken, self._given = None, 0, 0
        return rest

    def _counted(self, frame: av.AudioFrame | None) -> Audio:
        assert self._resampler is not None
        pieces = [piece.to_ndarray()[0] for piece in self._resampler.resample(frame)]
        ready = np.concatenate([np.zeros(0, np.float32), *pieces])
        self._given += len(ready)
        return np.asarray(ready, np.float32)
