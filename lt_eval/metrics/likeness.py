"""Whether a person looks the same from turn to turn, without a face-recognition network.

    face box (Haar cascade) -> 16 x 16 pixels, CIELAB -> mean over frames -> per channel zero mean -> unit vector
    of two turns: the cosine of their vectors; of a conversation: the mean over all pairs of turns

It compares colours and coarse shapes of hair, skin, light and what is close around the face. A change of person, hair,
clothes' collar or light lowers it; two people who look alike from afar are not told apart. It is no measure of identity
as ArcFace's similarity is, and its column says so by its name.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lt_eval.errors import UnscorableError
from lt_eval.metrics.motion import face_box
from lt_eval.records import Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lt_eval.records import Frames, Sample

SIDE_PX = 16
LOOKS = 16
"""Frames a turn whose faces are averaged."""

MARGIN = 0.25
"""Of the box's side, added on every side, so that hair counts."""

LIGHTNESS_WEIGHT = 0.5
"""Of L beside a and b: light changes sooner than colours do."""


@dataclass(frozen=True)
class Likeness:
    """Cosine of low-resolution face pictures between the turns of a conversation."""

    columns = {"Low-res likeness": Column("higher", minimum=-1.0, maximum=1.0, digits=3)}

    footnotes = (
        "Low-res likeness: mean cosine between the turns' averaged 16x16 face pictures (Haar cascade, CIELAB); a "
        "builtin measure of looks, not a face-recognition similarity.",
    )

    def score_dialogue(self, samples: Sequence[Sample], transcript: str) -> dict[str, float]:
        """Return the mean cosine over all pairs of turns.

        Raises:
            UnscorableError: fewer than two turns, or a turn that shows no frontal face.
            MediaError: a clip cannot be read.
        """
        if len(samples) < 2:
            raise UnscorableError("one_turn", f"likeness compares turns, and there is {len(samples)}.")
        looks = [look_of(sample.clip.frames, str(sample.clip.path)) for sample in samples]
        cosines = [float(a @ b) for a, b in itertools.combinations(looks, 2)]
        return {"Low-res likeness": float(np.clip(np.mean(cosines), -1.0, 1.0))}


def look_of(frames: Frames, name: str) -> NDArray[np.float64]:
    """Return the unit vector float64 [768] of a clip, uint8 RGB [T, H, W, 3].

    Raises:
        UnscorableError: no frontal face, or one without any contrast.
    """
    import cv2

    left, top, right, bottom = face_box(frames, name)
    margin = round(MARGIN * (right - left))
    rows = slice(max(0, top - margin), bottom + margin)
    columns = slice(max(0, left - margin), right + margin)
    total = np.zeros((SIDE_PX, SIDE_PX, 3))
    numbers = np.unique(np.linspace(0, len(frames) - 1, LOOKS).round().astype(int))
    for number in numbers:
        crop = np.ascontiguousarray(frames[number][rows, columns]).astype(np.float32) / 255.0
        small = cv2.resize(crop, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
        total += cv2.cvtColor(small, cv2.COLOR_RGB2LAB)
    look = total / len(numbers)
    look -= look.mean(axis=(0, 1))
    look[..., 0] *= LIGHTNESS_WEIGHT
    length = float(np.linalg.norm(look))
    if length < 1e-6:
        raise UnscorableError("no_contrast", f"{name}: the face is one plain colour.")
    return np.asarray(look.reshape(-1) / length)
