"""Clips of the procedural talker as a lip-sync network meets them: encoded, decoded, and cropped around the face.

Every clip goes through an mp4 file: drawn at some size, perhaps blurred, H.264 at some quality and AAC, then decoded at
25 fps and cropped as the metric does it, with the boxes that the talker states.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lt_eval.media.clip import MediaClip
from lt_eval.media.encode import encode
from lt_eval.media.spectra import pcm16
from lt_eval.metrics.faces import FaceTrack, crop_face, smoothed
from lt_eval.records import Audio, Frames
from lt_eval.synthetic.talker import perform

FPS = 25.0
REGION = (slice(36, 220), slice(20, 204))
"""What training keeps of a crop: the window that the network looks at, with room for other framings."""

SHRINK = 2
"""Kept at half the size, which is what the network looks at."""


@dataclass(frozen=True)
class Recipe:
    """How one clip is made.

    Attributes:
        seed: person, voice, manner and words.
        size: side of the frames in pixels.
        blur: sigma of a Gaussian in pixels of a frame 256 wide; 0 is none.
        crf: x264's quality.
        seconds: length.
    """

    seed: int
    size: int = 256
    blur: float = 0.0
    crf: int = 18
    seconds: float = 5.0


@dataclass(frozen=True)
class TalkerClip:
    """A clip after its mp4 file.

    Attributes:
        crops: uint8 RGB [T, 224, 224, 3].
        audio: float32 [S] mono 16 kHz.
        frames: uint8 RGB [T, H, W, 3], the decoded pictures.
    """

    crops: Frames
    audio: Audio
    frames: Frames


def varied(seed: int, seconds: float = 5.0) -> Recipe:
    """Return a recipe for training: sizes 128 to 512, a third of the clips blurred, qualities 16 to 42."""
    rng = np.random.Generator(np.random.PCG64([seed, 11]))
    size = int(rng.choice([128, 192, 256, 384, 512], p=[0.3, 0.27, 0.3, 0.1, 0.03]))
    blur = float(rng.uniform(0.5, 4.0)) if rng.random() < 0.33 else 0.0
    crf = int(rng.integers(16, 43))
    return Recipe(seed, size, round(blur, 2), crf, seconds)


def crop(frames: Frames, boxes: NDArray[np.float64]) -> Frames:
    """Cut the faces out as the metric does.

    Args:
        frames: uint8 RGB [T, H, W, 3].
        boxes: float64 [T, 4], left, top, right, bottom in pixels.

    Returns:
        uint8 RGB [T, 224, 224, 3].
    """
    places = smoothed(FaceTrack(0, boxes, len(boxes)))
    return np.stack([crop_face(frame, x, y, half) for frame, (x, y, half) in zip(frames, places, strict=True)])


def make(recipe: Recipe) -> TalkerClip:
    """Draw, voice, encode, decode and crop one clip."""
    show = perform(recipe.seed, recipe.seconds, recipe.size)
    frames = np.stack(list(show.frames()))
    if recipe.blur:
        spread = recipe.blur * recipe.size / 256
        frames = np.stack([cv2.GaussianBlur(frame, (0, 0), spread) for frame in frames])
    boxes = np.array([show.box(index) for index in range(len(show))]) * recipe.size
    frames, audio = through_mp4(frames, show.audio, recipe.crf)
    return TalkerClip(crop(frames, boxes), audio, frames)


def through_mp4(frames: Frames, audio: Audio, crf: int = 18) -> tuple[Frames, Audio]:
    """Return pictures and sound as they come out of an mp4 file, as many of each as went in."""
    with tempfile.TemporaryDirectory() as folder:
        path = encode(Path(folder) / "clip.mp4", frames, FPS, audio, crf=crf, preset="veryfast")
        with MediaClip(path) as clip:
            decoded, heard = np.array(clip.frames[: len(frames)]), np.array(clip.audio[: len(audio)])
    if len(decoded) != len(frames):
        raise RuntimeError(f"{len(frames)} frames were encoded and {len(decoded)} decoded.")
    return decoded, np.pad(heard, (0, len(audio) - len(heard)))


def cached(
    recipes: Sequence[Recipe], folder: Path, report: Callable[[int, int], None]
) -> Iterator[tuple[Frames, NDArray[np.int16]]]:
    """Yield the (region of the crops, samples) of each recipe, making what is not in `folder` yet.

    The regions are uint8 RGB [T, 92, 92, 3], maps of files; the samples are int16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for done, recipe in enumerate(recipes, 1):
        name = "-".join(str(value) for value in dataclasses.astuple(recipe))
        pictures, sound = folder / f"{name}.region.npy", folder / f"{name}.pcm.npy"
        if not sound.is_file():
            clip = make(recipe)
            small = [
                cv2.resize(face[REGION], None, fx=1 / SHRINK, fy=1 / SHRINK, interpolation=cv2.INTER_AREA)
                for face in clip.crops
            ]
            _save(pictures, np.stack(small))
            _save(sound, pcm16(clip.audio))
        report(done, len(recipes))
        yield np.load(pictures, mmap_mode="r"), np.load(sound)


def _save(path: Path, array: NDArray[Any]) -> None:
    """Write under the name only when complete."""
    partial = path.with_suffix(".partial.npy")
    np.save(partial, array)
    partial.replace(path)
