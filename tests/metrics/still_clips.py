"""Clips made of arrays, moving pictures with detail at every scale, and what spoils them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lt_eval.records import SAMPLE_RATE_HZ, Audio, Frames


@dataclass(frozen=True, eq=False)
class ArrayClip:
    """A clip whose frames are given."""

    frames: Frames
    path: Path = Path("array.mp4")
    fps: float = 25.0

    @property
    def audio(self) -> Audio:
        return np.zeros(round(len(self.frames) / self.fps * SAMPLE_RATE_HZ), np.float32)


def talking_blob(seed: int, count: int = 48, side: int = 128) -> Frames:
    """Return uint8 [count, side, side, 3]: a textured oval that sways before a textured wall, its mouth opening."""
    rng = np.random.default_rng(seed)
    wall = _texture(rng, 2 * side)
    skin = _texture(rng, 2 * side)
    y, x = np.mgrid[0:side, 0:side]
    frames = np.empty((count, side, side, 3), np.uint8)
    phase, sway, pace = rng.uniform(0, 6), rng.uniform(3, 7), rng.uniform(0.9, 1.6)
    for t in range(count):
        shift = round(sway * np.sin(0.15 * t + phase))
        across, down = x - side / 2 - shift, y - side / 2
        face = (across / (0.28 * side)) ** 2 + (down / (0.36 * side)) ** 2 < 1
        gape = 0.02 + 0.06 * (0.5 + 0.5 * np.sin(pace * t + phase))
        mouth = (across / (0.1 * side)) ** 2 + ((down - 0.18 * side) / (gape * side)) ** 2 < 1
        frame = wall[:side, :side].copy()
        frame[face] = skin[side // 2 : side // 2 + side, side // 2 - shift : side // 2 - shift + side][face]
        frame[mouth] = (60, 10, 20)
        frames[t] = frame
    return frames


def _texture(rng: np.random.Generator, side: int) -> Frames:
    """Return uint8 [side, side, 3] whose detail falls with frequency and is mostly grey, as that of photographs is."""
    total = np.zeros((side, side, 3))
    for cells in (4, 16, 64, side):
        noise = rng.normal(0, 1, (cells, cells, 1)) + rng.normal(0, 1 / cells, (cells, cells, 3))
        total += cv2.resize(noise.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC) * 60 / cells**0.5
    return np.asarray(np.clip(rng.uniform(80, 170, 3) + total, 0, 255), np.uint8)


def blurred(spread: float) -> Callable[[Frames], Frames]:
    return lambda frames: np.stack([np.asarray(cv2.GaussianBlur(f, (0, 0), spread), np.uint8) for f in frames])


def compressed(quality: int) -> Callable[[Frames], Frames]:
    def through_jpeg(frame: Frames) -> Frames:
        encoded = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)

    return lambda frames: np.stack([through_jpeg(frame) for frame in frames])


def dropped(share: float, seed: int = 0) -> Callable[[Frames], Frames]:
    """Repeat the last frame that came, as a player does, where `share` of the frames did not."""

    def hold(frames: Frames) -> Frames:
        came = np.random.default_rng(seed).random(len(frames)) >= share
        came[0] = True
        return frames[np.maximum.accumulate(np.where(came, np.arange(len(frames)), 0))]

    return hold


def frozen(share: float) -> Callable[[Frames], Frames]:
    """Stand still for the last `share` of the clip."""
    return lambda frames: frames[np.minimum(np.arange(len(frames)), round((1 - share) * (len(frames) - 1)))]
