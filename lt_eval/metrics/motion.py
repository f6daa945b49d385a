"""How much moves: the mean absolute change from frame to frame. A frozen picture has 0; more is not better.

motion(clip) = mean over t, y, x of |Y(t + 1) - Y(t)|, Y the luma of ITU-R BT.601 in levels of 0..255, on frames brought
to 64 pixels of height by area averaging, so that noise of single pixels and the clip's size count little. At the run's
frame rate: twice the rate halves the change between frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from lt_eval.errors import UnscorableError
from lt_eval.media.haar import frontal_faces
from lt_eval.metrics.feature_sets import check_choice
from lt_eval.records import Column

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lt_eval.records import Frames, Sample

HEIGHT_PX = 64


@dataclass(frozen=True)
class Motion:
    """Mean absolute change of luma between neighbouring frames.

    Attributes:
        region: the whole "frame", or the "face": the median box of OpenCV's Haar cascade over nine frames.
    """

    region: Literal["frame", "face"] = "frame"

    columns = {"Motion": Column("neither", unit="levels", minimum=0.0)}

    def __post_init__(self) -> None:
        check_choice("region", self.region, ("frame", "face"))

    @property
    def footnotes(self) -> tuple[str, ...]:
        """How it was computed."""
        where = "the whole frame" if self.region == "frame" else "the face's box (Haar cascade)"
        return (f"Motion: mean absolute change of luma between frames, in levels of 0 to 255, over {where}.",)

    def score(self, sample: Sample) -> dict[str, float]:
        """Return the motion of one clip; raises UnscorableError (clip_too_short, no_face) or MediaError."""
        frames = sample.clip.frames
        if len(frames) < 2:
            raise UnscorableError("clip_too_short", f"{sample.clip.path}: motion needs two frames; there is one.")
        if self.region == "face":
            left, top, right, bottom = face_box(frames, str(sample.clip.path))
            frames = frames[:, top:bottom, left:right]
        return {"Motion": mean_change(frames)}


def mean_change(frames: Frames) -> float:
    """Return the mean absolute change of luma from frame to frame, in levels, of uint8 RGB [T, H, W, 3], T > 1."""
    before = small_luma(frames[0])
    total = 0.0
    for frame in frames[1:]:
        now = small_luma(frame)
        total += float(np.abs(now - before).mean())
        before = now
    return total / (len(frames) - 1)


def small_luma(frame: Frames) -> NDArray[np.float32]:
    """Return float32 [64, w] luma of uint8 RGB [H, W, 3] in levels; a smaller frame keeps its size."""
    import cv2

    luma = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY).astype(np.float32)
    scale = HEIGHT_PX / luma.shape[0]
    if scale < 1:
        luma = cv2.resize(luma, (max(1, round(luma.shape[1] * scale)), HEIGHT_PX), interpolation=cv2.INTER_AREA).astype(
            np.float32
        )
    return luma


def face_box(frames: Frames, name: str, looks: int = 9) -> tuple[int, int, int, int]:
    """Return the median box of the largest frontal face in `looks` frames: left, top, right, bottom in pixels.

    Raises:
        UnscorableError: fewer than a third of these frames show a frontal face.
    """
    height, width = frames.shape[1:3]
    found = []
    numbers = np.unique(np.linspace(0, len(frames) - 1, looks).round().astype(int))
    for number in numbers:
        faces = frontal_faces(frames[number], smallest=0.1)
        if len(faces):
            found.append(faces[np.argmax(faces[:, 2] * faces[:, 3])])
    if not found or len(found) * 3 < len(numbers):
        raise UnscorableError(
            "no_face", f"{name}: OpenCV's Haar cascade sees a frontal face in {len(found)} of {len(numbers)} frames."
        )
    left, top, side, tall = np.median(found, axis=0)
    box = np.rint([left * width, top * height, (left + side) * width, (top + tall) * height]).astype(int)
    return int(box[0]), int(box[1]), int(box[2]), int(box[3])
