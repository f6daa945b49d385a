"""Talking squares, and a network that reads their mouths: lip sync in closed form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lt_eval.media.spectra import mfcc
from lt_eval.records import Audio, Frames
from lt_eval.testing.fakes import ArrayClip

SIDE = 160
FACE = (0.1, 0.1, 0.9, 0.9)


class LoudnessNet:
    """Embeds lips as the brightness of five mouths, and audio as the loudness at the same five times, both around 0."""

    def lips(self, crops: NDArray[np.uint8]) -> Tensor:
        mouth = (crops[:, 80:100, 90:134].mean(axis=(1, 2, 3)) - 130) / 10
        return torch.from_numpy(np.lib.stride_tricks.sliding_window_view(mouth, 5).astype(np.float32).copy())

    def audio(self, mfcc: NDArray[np.float32]) -> Tensor:
        count = (len(mfcc) - 20) // 4 + 1
        levels = (level_of(mfcc) - 130) / 10
        return torch.from_numpy(np.stack([levels[i : i + 5] for i in range(count)]).astype(np.float32))


def level_of(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logarithm of the energy where each frame begins, as a brightness of 10 .. 250."""
    return np.asarray(np.clip(20 * rows[::4, 0] - 240, 10, 250), np.float32)


def babble(frames: int, seed: int = 0) -> Audio:
    """Noise whose loudness changes from frame to frame."""
    rng = np.random.default_rng(seed)
    loudness = np.repeat(10 ** rng.uniform(-2.5, -0.5, frames), 640)
    return np.asarray(np.clip(loudness * rng.standard_normal(640 * frames), -1, 1), np.float32)


def talking_square(audio: Audio, frames: int, background: int = 60) -> Frames:
    """A grey square whose mouth is as bright as the audio is loud."""
    picture = np.full((frames, SIDE, SIDE, 3), background, np.uint8)
    levels = level_of(mfcc(np.pad(audio, (0, max(0, 640 * frames + 320 - len(audio))))))[:frames]
    low, high = round(SIDE * 0.1), round(SIDE * 0.9)
    picture[:, low:high, low:high] = 128
    picture[:, 70:100, 50:110] = np.rint(levels)[:, None, None, None]
    return picture


def write_faces(path: Path, frames: int, box: tuple[float, float, float, float] | None = FACE, fps: float = 25) -> Path:
    """Write a file of face boxes."""
    path.write_text(json.dumps({"fps": fps, "faces": [box] * frames}))
    return path


def talking_clip(folder: Path, frames: int = 40, late: int = 0, seed: int = 0) -> ArrayClip:
    """A clip with its sidecar, whose sound comes `late` frames after the lips."""
    audio = babble(frames + 40, seed)
    pictures = talking_square(audio[20 * 640 :], frames)
    path = folder / f"talk{seed}_{late}.mp4"
    write_faces(path.with_name(f"{path.stem}.faces.json"), frames)
    start = (20 - late) * 640
    return ArrayClip(pictures, audio[start : start + frames * 640], path=path)
