"""What a face looks like as a picture: its motion, colour and sharpness, in numbers that can be followed over time.

    evenly spaced frames -> face boxes -> the middle of the face -> CIELAB mean, variance of the Laplacian
    the median box -> all frames within it -> mean absolute change of luma

None of these is better when it is higher: a stream that holds keeps them. How far they wander from the first minute
is what `lt-eval longform` reports. Colour is CIELAB under D65 (L 0..100); sharpness is the variance of OpenCV's 3 x 3
Laplacian of the luma in levels of 0..255, on the face brought to 112 x 112 pixels, so that it does not depend on the
size of the face unless detail is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from lt_eval.errors import UnscorableError
from lt_eval.metrics import clip_faces
from lt_eval.metrics.clip_faces import BOXES, Faces, faces_in, sources_of, spread
from lt_eval.metrics.face_alignment import aligned_face
from lt_eval.metrics.feature_sets import check_choice, feature_key
from lt_eval.metrics.motion import mean_change
from lt_eval.records import Column, Score

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lt_eval.metrics.face_boxes import Source
    from lt_eval.records import Frames, Sample

INNER = 0.8
"""Side of the square looked at over the longer side of the face's box: skin, eyes and mouth, little of the room."""

_SOURCES = ("appearance.py", "motion.py", "face_alignment.py", *clip_faces.CODE)


@dataclass(frozen=True)
class Appearance:
    """Motion, colour and sharpness of the face.

    Attributes:
        weights: "official" or "builtin": which detector "auto" falls back on, S3FD or the Haar cascade.
        faces: where face boxes come from, as the option of `identity`.
        frames: how many evenly spaced frames colour and sharpness are taken from; 0 is all.
        device: of S3FD.

    Raises:
        ValueError: a value that none of these is.
    """

    weights: Literal["official", "builtin"] = "official"
    faces: Faces = "auto"
    frames: int = 16
    device: str = "auto"

    columns = {
        "Face motion": Column("neither", unit="levels", minimum=0.0),
        "Face L": Column("neither", minimum=0.0, maximum=100.0),
        "Face a": Column("neither"),
        "Face b": Column("neither"),
        "Face sharpness": Column("neither", unit="levels²", digits=1, minimum=0.0),
    }

    def __post_init__(self) -> None:
        check_choice("weights", self.weights, ("official", "builtin"))
        check_choice("faces", self.faces, tuple(clip_faces.CHOICES))
        if self.frames < 0:
            raise ValueError(f"frames is {self.frames}; the rule is 0, which is all, or more.")

    @property
    def _sources(self) -> tuple[Source, ...]:
        return sources_of(self.faces, builtin=self.weights == "builtin")

    def score(self, sample: Sample) -> Score:
        """Return the five values of one clip.

        Raises:
            UnscorableError: clip_too_short, no_face (fewer than half of the frames have one), no_face_boxes,
                bad_face_boxes, face_outside.
            MediaError: the clip cannot be decoded.
        """
        clip, turn = sample.clip, sample.dialogue.turns[sample.turn]
        frames = clip.frames
        if len(frames) < 2:
            raise UnscorableError("clip_too_short", f"{clip.path}: motion needs two frames; there are {len(frames)}.")
        numbers = spread(len(frames), self.frames)
        source, found = faces_in(clip, turn, numbers, self._sources, self.device)
        seen = [(int(number), face) for number, face in zip(numbers, found, strict=True) if face is not None]
        if 2 * len(seen) < len(numbers):
            raise UnscorableError(
                "no_face", f"{clip.path}: a face is seen in {len(seen)} of {len(numbers)} frames; half are needed."
            )
        faces = np.stack([aligned_face(frames[number], face, INNER) for number, face in seen])
        lightness, red_green, yellow_blue = mean_lab(faces)
        box = np.median([face for _, face in seen], axis=0)
        return Score(
            {
                "Face motion": mean_change(_within(frames, box)),
                "Face L": lightness,
                "Face a": red_green,
                "Face b": yellow_blue,
                "Face sharpness": float(np.mean([sharpness(face) for face in faces])),
            },
            {"faces": source, "seen": len(seen), "looked_at": len(numbers)},
        )

    @property
    def fingerprint(self) -> str:
        """Of code, options and the detector's weights."""
        return feature_key(clip_faces.detector_key(self._sources), self.faces, self.frames, sources=_SOURCES)

    @property
    def footnotes(self) -> Sequence[str]:
        """How it was computed."""
        boxes = ", else ".join(BOXES[source] for source in self._sources)
        return (
            "Face motion: mean absolute change of luma between frames within the face's median box, in levels of 0 to "
            "255. Face L, a, b: mean CIELAB colour of the middle of the face. Face sharpness: variance of the "
            f"Laplacian of the face at 112x112. Face boxes: {boxes}.",
        )


def mean_lab(faces: Frames) -> tuple[float, float, float]:
    """Return mean L (0..100), a and b, CIELAB under D65, of uint8 sRGB [N, H, W, 3]."""
    import cv2

    flat = (faces.reshape(1, -1, 3)).astype(np.float32) / 255
    lab = cv2.cvtColor(flat, cv2.COLOR_RGB2LAB).reshape(-1, 3).mean(axis=0, dtype=np.float64)
    return float(lab[0]), float(lab[1]), float(lab[2])


def sharpness(face: Frames) -> float:
    """Return the variance of the Laplacian of the luma, in levels squared, of uint8 RGB [H, W, 3]."""
    import cv2

    luma = cv2.cvtColor(np.ascontiguousarray(face), cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(luma, cv2.CV_64F, ksize=1).var())


def _within(frames: Frames, box: NDArray[np.float64]) -> Frames:
    """Return all frames cut to a box, as a view."""
    height, width = frames.shape[1:3]
    left, top = int(np.clip(np.floor(box[0]), 0, width - 1)), int(np.clip(np.floor(box[1]), 0, height - 1))
    right, bottom = int(np.clip(np.ceil(box[2]), left + 1, width)), int(np.clip(np.ceil(box[3]), top + 1, height))
    return frames[:, top:bottom, left:right]
