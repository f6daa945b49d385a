"""Small clips with moving pictures, for tests that need files rather than arrays."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from lt_eval.media.encode import encode
from lt_eval.records import SAMPLE_RATE_HZ, Audio, Frames


def moving_frames(seed: int, count: int = 20, side: int = 64) -> Frames:
    """Return uint8 RGB [count, side, side, 3]: waves that travel, each seed with colours of its own."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    frames = np.zeros((count, side, side, 3))
    for channel in range(3):
        fx, fy, speed, phase = rng.uniform(1, 4), rng.uniform(1, 4), rng.uniform(0.1, 0.4), rng.uniform(0, 6)
        for t in range(count):
            frames[t, ..., channel] = 127 + 100 * np.sin(2 * np.pi * (fx * x + fy * y) + phase + speed * t)
    return frames.astype(np.uint8)


def tone(seed: int, seconds: float) -> Audio:
    """Return float32 [T] at 16 kHz."""
    times = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return (0.3 * np.sin(2 * np.pi * (200 + 40 * seed) * times)).astype(np.float32)


def write_clips(folder: Path, names: list[str], *, seed: int = 0, count: int = 20, blur: int = 0) -> Path:
    """Write one small clip a name and return the folder."""
    import cv2

    for number, name in enumerate(names):
        frames = moving_frames(seed + number, count)
        if blur:
            frames = np.stack([cv2.blur(frame, (blur, blur)) for frame in frames]).astype(np.uint8)
        encode(folder / f"{name}.mp4", frames, 25.0, tone(number, count / 25), preset="ultrafast")
    return folder


def write_wav(path: Path, samples: Audio) -> Path:
    """Write 16-bit mono at 16 kHz and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path
