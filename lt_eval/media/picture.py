"""From a decoded picture to the canonical frame: upright, without bars, at the policy's size.

All steps work on uint8 RGB [H, W, 3]. Sizes shrink with OpenCV's INTER_AREA (each output pixel is the mean of what it
covers, no aliasing) and grow with INTER_CUBIC. Pixels are taken as square: a file's sample aspect ratio is not applied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lt_eval.records import Box, Frames, MediaPolicy

UPRIGHT = (1, 0, 0, 0, 1, 0, 0, 0, 1)


def orient(pixels: Frames, matrix: Sequence[int]) -> Frames:
    """Turn and mirror a picture as its display matrix says.

    Args:
        pixels: uint8 RGB [H, W, 3] as coded.
        matrix: the nine numbers of ISO 14496-12's display matrix; (x, y) is shown at (a x + c y, b x + d y) with
            a, b = matrix[0:2] and c, d = matrix[3:5]. Angles between right angles snap to the nearest one.
    """
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if abs(a) < abs(b):
        pixels = pixels.swapaxes(0, 1)
        a, d = c, b
    if a < 0:
        pixels = pixels[:, ::-1]
    if d < 0:
        pixels = pixels[::-1]
    return pixels


def is_sideways(matrix: Sequence[int]) -> bool:
    """Return whether the display matrix exchanges width and height."""
    return abs(matrix[0]) < abs(matrix[1])


def crop(pixels: Frames, content: Box) -> Frames:
    """Return the part of a picture that `content` names, each edge rounded to the nearest pixel, never empty."""
    height, width = pixels.shape[:2]
    left, right = round(content.left * width), round(content.right * width)
    top, bottom = round(content.top * height), round(content.bottom * height)
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    return pixels[top : max(bottom, top + 1), left : max(right, left + 1)]


def fit(pixels: Frames, policy: MediaPolicy) -> Frames:
    """Return the picture as `policy.size` and `policy.fit` want it; unchanged where `size` is None.

    "crop" keeps the centred square of the shorter side (an odd remainder goes to the right and bottom), "letterbox"
    keeps everything between equal black bars, "squash" ignores the shape.
    """
    if policy.size is None:
        return pixels
    side = policy.size
    height, width = pixels.shape[:2]
    if policy.fit == "crop":
        edge = min(height, width)
        top, left = (height - edge) // 2, (width - edge) // 2
        return _resize(pixels[top : top + edge, left : left + edge], side, side)
    if policy.fit == "squash":
        return _resize(pixels, side, side)
    scale = side / max(height, width)
    inner_h, inner_w = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (side - inner_h) // 2, (side - inner_w) // 2
    framed = np.zeros((side, side, 3), np.uint8)
    framed[top : top + inner_h, left : left + inner_w] = _resize(pixels, inner_h, inner_w)
    return framed


def _resize(pixels: Frames, height: int, width: int) -> Frames:
    if pixels.shape[:2] == (height, width):
        return pixels
    shrinks = height <= pixels.shape[0] and width <= pixels.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    resized: Frames = cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=method).astype(np.uint8)
    return resized
