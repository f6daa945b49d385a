"""From a face box to the 112 x 112 picture that face-recognition networks look at.

ArcFace's pictures are aligned by five landmarks (both eyes, nose, corners of the mouth) with a similarity transform
onto a template. There are no landmarks here: a square is cut around the box, placed so that the eyes lie where the
template has them, 46 % down and 31 % of the side apart, in the mean. What differs: roll is not undone, and a face with
eyes higher, or farther apart, than the mean keeps them so. On nine real clips the eyes were 0.30 to 0.40 sides of the
Haar box apart (median 0.36) and 0.37 to 0.42 down (median 0.40); the talker's stated boxes have 0.36 and 0.41 of their
height. Both give one square: 1.15 of the box's longer side, its centre 0.056 of that side above the box's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from lt_eval.errors import UnscorableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lt_eval.records import Frames

SIDE_PX = 112
SCALE = 1.15
"""Side of the square over the longer side of the box."""

RAISED = 0.056
"""How far the square's centre lies above the box's, in longer sides of the box."""


def square_of(box: Sequence[float] | NDArray[np.float64], scale: float = SCALE) -> tuple[int, int, int]:
    """Return left, top and side in whole pixels of the square around a box, which may reach beyond the picture.

    Args:
        box: left, top, right, bottom in pixels.
        scale: side over the longer side of the box.
    """
    left, top, right, bottom = (float(edge) for edge in box[:4])
    longer = max(right - left, bottom - top)
    side = max(1, round(scale * longer))
    return round((left + right - side) / 2), round((top + bottom - side) / 2 - RAISED * longer), side


def aligned_face(
    frame: Frames, box: Sequence[float] | NDArray[np.float64], scale: float = SCALE, side_px: int = SIDE_PX
) -> Frames:
    """Return the face in a box, uint8 RGB [side_px, side_px, 3]; outside of the frame it is black, as ArcFace has it.

    Args:
        frame: uint8 RGB [H, W, 3].
        box: left, top, right, bottom in pixels, from the hairline to the chin.
        scale: of the square, 1.15 for networks.
        side_px: of the result.

    Raises:
        UnscorableError: nothing of the square lies in the frame, or it is many times larger (face_outside).
    """
    height, width = frame.shape[:2]
    left, top, side = square_of(box, scale)
    rows, columns = slice(max(0, top), max(0, top + side)), slice(max(0, left), max(0, left + side))
    inside = frame[rows, columns]
    if not inside.size or side > 4 * max(height, width):
        raise UnscorableError(
            "face_outside", f"a face's square of side {side} at ({left}, {top}) does not lie in {width}x{height}."
        )
    if inside.shape[:2] != (side, side):
        whole = np.zeros((side, side, 3), np.uint8)
        at_y, at_x = max(0, -top), max(0, -left)
        whole[at_y : at_y + inside.shape[0], at_x : at_x + inside.shape[1]] = inside
        inside = whole
    # area averaging keeps a large face free of aliasing; enlarged by it a small one would show its pixels
    how = cv2.INTER_AREA if side > side_px else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(inside), (side_px, side_px), interpolation=how), np.uint8)
