"""Frontal faces with nothing downloaded: OpenCV's Haar cascade (Viola and Jones 2001; the file comes with OpenCV 4).

It needs no weights and the same one is on every machine. It misses profiles, and its boxes are squares that reach from
about the hairline to the chin.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lt_eval.records import Frames

CASCADE = "haarcascade_frontalface_default.xml"

WORKING_SIDE_PX = 640
"""Frames are searched at this size: the cascade's answer is as good and comes many times sooner."""

SMALLEST_FACE = 0.06
"""Side of the smallest face searched for, over the longer side of the frame."""


def frontal_faces(
    frame: Frames, working_side_px: int = WORKING_SIDE_PX, smallest: float = SMALLEST_FACE
) -> NDArray[np.float64]:
    """Return every frontal face of a frame, float64 [N, 4]: left, top, width, height in fractions of the frame.

    Args:
        frame: uint8 RGB [H, W, 3].
        working_side_px: the longer side that a larger frame is searched at.
        smallest: side of the smallest face searched for, over the longer side of the frame.
    """
    height, width = frame.shape[:2]
    scale = min(1.0, working_side_px / max(height, width))
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    side = round(smallest * max(grey.shape))
    found: NDArray[np.int32] = np.asarray(
        _cascade().detectMultiScale(cv2.equalizeHist(grey), 1.1, 5, minSize=(side, side)), np.int32
    ).reshape(-1, 4)
    return np.asarray(found / np.tile(grey.shape[::-1], 2), np.float64)


@cache
def _cascade() -> cv2.CascadeClassifier:
    return cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / CASCADE))
