"""Where the face is, and which square of the frame becomes the clip. One square for the whole clip: nothing jitters.

Boxes are found with OpenCV's Haar cascade (`media.haar`). It misses profiles, so a published crop is preferred to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from lt_eval.datasets.candidates import FaceCentre, PixelBox
from lt_eval.errors import UnscorableError
from lt_eval.media.haar import frontal_faces
from lt_eval.records import Box

if TYPE_CHECKING:
    from lt_eval.records import Frames

EXPAND = 2.0
"""Side of the square over the side of the cascade's box, which ends at brows and chin: a head with hair and neck."""

SEEN_IN = 0.5
"""Share of the frames in which a face must be seen."""


def find_face(frames: Iterable[Frames], near: FaceCentre | None = None) -> Box | None:
    """Return the median box of the face over some frames of one clip, in fractions of the frame, or None.

    Args:
        frames: uint8 RGB [H, W, 3] each, all of one size.
        near: choose the face whose centre lies nearest; by default the largest one.
    """
    boxes, total = [], 0
    for frame in frames:
        total += 1
        box = _face_of(frame, near)
        if box is not None:
            boxes.append(box)
    if not boxes or len(boxes) < SEEN_IN * total:
        return None
    return Box(*(float(edge) for edge in np.median(np.asarray(boxes), axis=0)))


def square_around(face: Box, width: int, height: int) -> Box:
    """Return the square of EXPAND times the face, centred on it where the frame allows, on whole pixels."""
    side = EXPAND * max((face.right - face.left) * width, (face.bottom - face.top) * height)
    return _square((face.left + face.right) / 2 * width, (face.top + face.bottom) / 2 * height, side, width, height)


def published_square(region: Box | PixelBox, width: int, height: int) -> Box:
    """Return the square that was published, on whole pixels of this copy of the video.

    A fraction box that is no square gives the square of its shorter side, centred (`to_square` of CelebV-HQ's
    processing). A pixel box counts in a copy of the same shape and another height.
    """
    if isinstance(region, PixelBox):
        scale = height / region.frame_height
        side = min(region.width, region.height) * scale
        centre = (region.left + region.width / 2) * scale, (region.top + region.height / 2) * scale
        return _square(*centre, side, width, height)
    side = min((region.right - region.left) * width, (region.bottom - region.top) * height)
    centre = (region.left + region.right) / 2 * width, (region.top + region.bottom) / 2 * height
    return _square(*centre, side, width, height)


def side_px(square: Box, width: int) -> int:
    """Return the side of a square of this module in pixels of a frame of that width."""
    return round((square.right - square.left) * width)


def letterboxed(width: int, height: int, size: int) -> Box | None:
    """Return the part of a square frame that the picture fills, as `media.picture.fit` places it; None for all."""
    if width == height:
        return None
    scale = size / max(width, height)
    inner_w, inner_h = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (size - inner_w) // 2, (size - inner_h) // 2
    return Box(left / size, top / size, (left + inner_w) / size, (top + inner_h) / size)


def no_face(name: str) -> UnscorableError:
    """Return the reason for which a candidate without a face is passed over."""
    return UnscorableError("no_face", f"{name}: no frontal face is seen in at least half of the frames looked at")


def _face_of(frame: Frames, near: FaceCentre | None) -> Box | None:
    found = frontal_faces(frame)
    if not len(found):
        return None
    corner, size = found[:, :2], found[:, 2:]
    if near is None:
        best = int(np.argmax(size[:, 0]))
    else:
        away = np.abs(corner + size / 2 - near)
        best = int(np.argmin((away**2).sum(1)))
        if (away[best] > size[best]).any():
            return None
    return Box(*corner[best], *(corner[best] + size[best]))


def _square(centre_x: float, centre_y: float, side: float, width: int, height: int) -> Box:
    edge = max(1, min(round(side), width, height))
    left = min(max(round(centre_x - edge / 2), 0), width - edge)
    top = min(max(round(centre_y - edge / 2), 0), height - edge)
    return Box(left / width, top / height, (left + edge) / width, (top + edge) / height)
