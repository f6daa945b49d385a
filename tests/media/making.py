"""Makes the files that real folders hold, with PyAV alone, so that our own encoder is not its own judge."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from lt_eval.records import Audio, Frames

MILLISECOND = Fraction(1, 1000)
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg command to compare with")


@dataclass(frozen=True)
class Track:
    """Sound for `make_file`: int16 samples [channels, T], their rate, and when the first is heard."""

    samples: NDArray[np.int16]
    rate_hz: int
    start_s: Fraction = Fraction(0)
    codec: str = "pcm_s16le"


def numbered(count: int, height: int = 48, width: int = 64) -> Frames:
    """Frames [count, height, width, 3] whose left half tells the tens of their number and the right half the rest."""
    frames = np.empty((count, height, width, 3), np.uint8)
    for index, frame in enumerate(frames):
        frame[:, : width // 2] = 30 + 20 * (index // 10)
        frame[:, width // 2 :] = 30 + 20 * (index % 10)
    return frames


def shown(frames: Frames) -> list[int]:
    """The numbers of `numbered` frames after a codec."""
    half = frames.shape[2] // 2
    tens, ones = (frames[:, :, part].mean(axis=(1, 2, 3)) for part in (slice(half), slice(half, None)))
    return [int(n) for n in 10 * np.rint((tens - 30) / 20) + np.rint((ones - 30) / 20)]


def make_file(
    path: Path,
    frames: Frames,
    starts: Sequence[int],
    tick: Fraction = MILLISECOND,
    sound: Track | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    lasts: int = 1,
    options: dict[str, str] | None = None,
) -> Path:
    """Write frames that start at `starts` ticks; the last one lasts `lasts` ticks."""
    quality = {"libx264": {"qp": "0", "preset": "ultrafast"}, "mpeg4": {"qmin": "1", "qmax": "1"}}.get(codec, {})
    with av.open(path, "w") as out:
        video: Any = out.add_stream(codec, rate=25, options={**quality, "threads": "1", **(options or {})})
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], pix_fmt
        video.codec_context.time_base = tick
        audio: Any = None
        if sound is not None:
            layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1", 16: "hexadecagonal"}[len(sound.samples)]
            audio = out.add_stream(sound.codec, rate=sound.rate_hz, layout=layout)
        packets: list[Any] = []
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = starts[index], tick
            packets += video.encode(frame)
        ends = [*starts[1:], starts[-1] + lasts]
        for packet in [*packets, *video.encode(None)]:
            packet.duration = ends[starts.index(packet.pts)] - packet.pts
            out.mux(packet)
        if sound is not None:
            packed = np.ascontiguousarray(sound.samples.T.reshape(1, -1))
            heard = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
            heard.sample_rate, heard.time_base = sound.rate_hz, Fraction(1, sound.rate_hz)
            heard.pts = round(sound.start_s * sound.rate_hz)
            out.mux(audio.encode(heard))
            out.mux(audio.encode(None))
    return path


def regular(path: Path, fps: int, count: int, sound: Track | None = None, **options: Any) -> Path:
    """Write `count` numbered frames at a constant whole rate."""
    return make_file(path, numbered(count), range(count), Fraction(1, fps), sound, **options)


def clicks(rate_hz: int, seconds: float, at_s: Sequence[float], channels: int = 1) -> NDArray[np.int16]:
    """Silence [channels, T] with one loud sample at each time."""
    samples = np.zeros((channels, round(seconds * rate_hz)), np.int16)
    for time_s in at_s:
        samples[:, round(time_s * rate_hz)] = 30_000
    return samples


def heard_at(audio: Audio, near_s: float, rate_hz: int = 16_000) -> float:
    """When the loudest sample within 0.1 s of a time is heard."""
    first = max(0, round((near_s - 0.1) * rate_hz))
    part = np.abs(audio[first : round((near_s + 0.1) * rate_hz)])
    assert part.max() > 0.05, "no click there"
    return (first + int(part.argmax())) / rate_hz


def set_display_matrix(path: Path, turn: tuple[int, int, int, int]) -> None:
    """Write a, b, c, d of the display matrix into an mp4's (first, version 0) track header."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in turn)
    matrix = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4")
    data[at : at + 36] = matrix.tobytes()
    path.write_bytes(data)
