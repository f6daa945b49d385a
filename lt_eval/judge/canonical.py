"""One canonical clip a video: few frames, no sound, its own timeline carrying the true times.

Servers sample frames by rules that changed from version to version: 32 whatever the length, or 2 a second. A clip whose
container says at most 2 frames a second and at most 32 in all passes both unchanged, with its timestamps.

Frame k of N is the picture shown k / N of the way through. Sides are multiples of the model's grid, so that no server
resizes again: the longer one is always the same, hence every method spends the same number of tokens a frame, and the
shorter one is rounded, which bends the shape by half a grid cell at most.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from lt_eval.fingerprint import of_decoding, of_file
from lt_eval.media.encode import encode
from lt_eval.media.probe import opened, probe
from lt_eval.media.reader import Reader
from lt_eval.media.resample import exact_rate
from lt_eval.paths import cache_dir
from lt_eval.store import key_of, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lt_eval.judge.options import JudgeOptions
    from lt_eval.records import Frames

SERVER_RATE_HZ = 2
"""Frames a second that vLLM since 0.27 takes from a video."""

FEWEST_FRAMES = 4
"""That it takes from the shortest one; Qwen3-VL's own processor needs two."""

CRF, PRESET = 18, "medium"


@dataclass(frozen=True)
class ClipRules:
    """How a video becomes a canonical clip. The fields are those of `JudgeOptions`."""

    frames: Literal["portable", "paper"] = "portable"
    max_frames: int = 32
    side_px: int = 784
    grid_px: int = 32

    @staticmethod
    def of(options: JudgeOptions) -> ClipRules:
        """Return the rules of a judge's options."""
        return ClipRules(options.frames, options.max_frames, options.side_px, options.grid_px)

    def count(self, duration_s: Fraction, source_frames: int) -> int:
        """Return how many frames a video of this length gives."""
        wanted = self.max_frames
        if self.frames == "portable":
            wanted = min(self.max_frames, max(FEWEST_FRAMES, math.floor(duration_s * SERVER_RATE_HZ)))
        return max(2, min(wanted, source_frames))

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of the clip's frames for a picture of this size."""
        longer = self.side_px // self.grid_px * self.grid_px
        shorter = min(width, height) * longer / max(width, height)
        shorter = max(1, round(shorter / self.grid_px)) * self.grid_px
        return (longer, shorter) if width >= height else (shorter, longer)


@dataclass(frozen=True)
class CanonicalClip:
    """What the judge sees of one video.

    Attributes:
        path: mp4, H.264, no audio; its bytes depend on the video, the rules and the encoder only.
        sha256: of the file.
        frames: how many.
        fps: of the container: frames / duration of the video.
        width: of a frame in pixels.
        height: of a frame in pixels.
    """

    path: Path
    sha256: str
    frames: int
    fps: float
    width: int
    height: int

    def video_tokens(self, grid_px: int) -> int:
        """Return how many tokens the pictures take: one a grid cell and pair of frames."""
        return math.ceil(self.frames / 2) * (self.width // grid_px) * (self.height // grid_px)


def clips_folder() -> Path:
    """Return where canonical clips are kept; each can be made again."""
    return cache_dir() / "judge-clips"


def canonical_clip(video: Path, rules: ClipRules, folder: Path | None = None) -> CanonicalClip:
    """Return the canonical clip of a video, making it unless it is there.

    Raises:
        MediaError: the video cannot be read whole.
        StoreError: the clip cannot be written.
    """
    place = folder or clips_folder()
    info = probe(video)
    code = of_file(Path(__file__))
    key = key_of(of_file(video), vars(rules), code, of_decoding())
    path, facts = place / f"{key}.mp4", place / f"{key}.json"
    if path.is_file() and facts.is_file():
        known = json.loads(facts.read_text(encoding="utf-8"))
        if known["sha256"] == of_file(path):
            return CanonicalClip(path=path, **known)
    duration_s = Fraction(info.duration_s).limit_denominator(1_000_000)
    count = rules.count(duration_s, info.frames)
    rate = exact_rate(float(count / duration_s))
    width, height = rules.size(info.width, info.height)
    encode(path, _sampled(video, count, rate, (width, height)), float(rate), crf=CRF, preset=PRESET)
    made = CanonicalClip(path, of_file(path), count, float(rate), width, height)
    write_json(facts, {name: value for name, value in vars(made).items() if name != "path"})
    return made


def still_clip(path: Path, frames: Frames, fps: float) -> CanonicalClip:
    """Write frames, uint8 RGB [T, H, W, 3], as a canonical clip of their own (blank clips, test cards)."""
    encode(path, frames, fps, crf=CRF, preset=PRESET)
    return CanonicalClip(path, of_file(path), len(frames), fps, frames.shape[2], frames.shape[1])


def _sampled(video: Path, count: int, rate: Fraction, size: tuple[int, int]) -> Iterator[Frames]:
    """Yield `count` times uint8 RGB [1, H, W, 3]: the picture shown at 0, 1 / rate, 2 / rate ..."""
    given = 0
    with opened(video) as container:
        shown = None
        for shot in Reader(video, container):
            if shown is not None:
                while given < count and given / rate < shot.start_s:
                    yield _resized(shown.rgb(), size)
                    given += 1
            shown = shot
        while shown is not None and given < count:
            yield _resized(shown.rgb(), size)
            given += 1


def _resized(pixels: Frames, size: tuple[int, int]) -> Frames:
    shrinks = size[0] <= pixels.shape[1] and size[1] <= pixels.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    resized: Frames = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=method).astype(np.uint8)
    return resized[None]
