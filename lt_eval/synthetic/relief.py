"""A head as a height map: its outline, its surface and how light falls on it.

Head coordinates, used by everything that is drawn on a face: x to the viewer's right and y downwards, in head heights,
the origin between the eyes; the crown is at y = -0.5 and the chin at 0.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lt_eval.synthetic.identity import Identity

    Array = NDArray[np.float64]

EYE_X, EYE_Y = 0.152, 0.005
BROW_Y = -0.083
NOSE_Y = 0.185
MOUTH_Y = 0.292
HALF_WIDTH = 0.36

_OUTLINE_Y = np.array([-0.5, -0.47, -0.42, -0.33, -0.2, -0.05, 0.1, 0.2, 0.3, 0.38, 0.44, 0.48, 0.5])
_OUTLINE_X = np.array([0.0, 0.14, 0.225, 0.305, 0.352, 0.36, 0.348, 0.33, 0.288, 0.222, 0.15, 0.08, 0.0])
_JAW_WEIGHT = np.array([0, 0, 0, 0, 0, 0, 0.3, 0.7, 1.0, 1.0, 1.0, 1.0, 1.0])


def half_width(identity: Identity, y: Array) -> Array:
    """Half the width of the face at heights y, in head heights; 0 above the crown and below the chin."""
    x = _OUTLINE_X * identity.width * (1.0 + _JAW_WEIGHT * (identity.jaw - 1.0))
    # Sampled in the angle around the head, where the outline is smooth even at the crown and the chin.
    angle = np.arctan2(_OUTLINE_Y, x)
    radius = np.hypot(x, _OUTLINE_Y)
    fine = np.linspace(-np.pi / 2, np.pi / 2, 721)
    smooth = np.interp(fine, angle, radius)
    kernel = np.hanning(61) / np.hanning(61).sum()
    mirrored = np.concatenate([smooth[60:0:-1], smooth, smooth[-2:-62:-1]])
    smooth = np.convolve(mirrored, kernel, "same")[60:-60]
    fine_x, fine_y = smooth * np.cos(fine), smooth * np.sin(fine)
    return np.asarray(np.interp(y, fine_y, fine_x, left=0.0, right=0.0))


def depth(x: Array, y: Array) -> Array:
    """How far a point stands out, 0 (outline) .. 1 (tip of the nose): what turns with the head."""
    return np.asarray(np.sqrt(np.maximum(1.0 - (x / 0.46) ** 2 - ((y - 0.06) / 0.68) ** 2, 0.0)))


def jaw_drop(x: Array, y: Array) -> Array:
    """How far a point follows the chin when the jaw opens, 0..1."""
    downward = np.clip((y - 0.17) / 0.17, 0.0, 1.0)
    inward = np.clip((0.40 - np.abs(x)) / 0.16, 0.0, 1.0)
    return np.asarray(downward * downward * (3 - 2 * downward) * inward)


def _bump(x: Array, y: Array, at: tuple[float, float], spread: tuple[float, float], height: float) -> Array:
    return height * np.exp(-0.5 * (((x - at[0]) / spread[0]) ** 2 + ((y - at[1]) / spread[1]) ** 2))


def _nose(x: Array, y: Array, size: float) -> Array:
    """A ridge that widens and rises towards its tip, with wings."""
    along = np.clip((y + 0.07) / (NOSE_Y - 0.03 + 0.07), 0.0, 1.0)
    falling = 1.0 / (1.0 + np.exp((y - NOSE_Y + 0.006) / 0.009))
    spread = (0.022 + 0.016 * along**2) * size
    ridge = (0.080 * along**1.3) * size * np.exp(-0.5 * (x / spread) ** 2) * falling
    wings = sum(
        _bump(x, y, (side * 0.044 * size, NOSE_Y - 0.012), (0.017 * size, 0.018), 0.026 * size) for side in (-1, 1)
    )
    tip = _bump(x, y, (0.0, NOSE_Y - 0.028), (0.026 * size, 0.024), 0.022 * size)
    return np.asarray(ridge + wings + tip)


def surface(identity: Identity, x: Array, y: Array) -> Array:
    """Height of the face towards the viewer, in head heights."""
    width = half_width(identity, y) + 1e-4
    dome = 0.34 * np.clip(1.0 - ((y + 0.0) / 0.56) ** 4, 0.0, 1.0)
    height = dome * np.sqrt(np.clip(1.0 - (x / (width * 1.03)) ** 2, 0.0, 1.0))
    height += _nose(x, y, identity.nose)
    gap = EYE_X * identity.eye_gap
    for side in (-1, 1):
        height += _bump(x, y, (side * gap, EYE_Y), (0.070, 0.042), -0.026)
        height += _bump(x, y, (side * gap * 0.95, BROW_Y + 0.004), (0.075, 0.024), 0.012)
        height += _bump(x, y, (side * 0.205, 0.115), (0.075, 0.060), 0.022)
        height += _bump(x, y, (side * 0.118, 0.245), (0.018, 0.060), -0.006)
        height += _bump(x, y, (side * 0.125, MOUTH_Y + 0.004), (0.018, 0.018), -0.007)
    height += _bump(x, y, (0.0, MOUTH_Y), (0.105, 0.060), 0.024)
    height += _bump(x, y, (0.0, 0.372), (0.075, 0.018), -0.010)
    height += _bump(x, y, (0.0, 0.440), (0.060, 0.040), 0.022)
    height += _bump(x, y, (0.0, 0.228), (0.010, 0.020), -0.004)
    return np.asarray(height)


def shade(height: Array, unit_px: float, light: float) -> tuple[Array, Array]:
    """Return diffuse light (about 0.55..1.15) and a soft highlight (0..1) of a height map; light from above."""
    down, right = np.gradient(height, 1.0 / unit_px)
    norm = 1.0 / np.sqrt(1.0 + right * right + down * down)
    towards = np.array([light * 0.55, -0.42, 0.75])
    towards /= np.sqrt((towards**2).sum())
    lambert = np.clip((-right * towards[0] - down * towards[1] + towards[2]) * norm, 0.0, 1.0)
    fill = np.clip((right * towards[0] * 0.6 + 0.5) * norm, 0.0, 1.0)
    half = towards + np.array([0.0, 0.0, 1.0])
    half /= np.sqrt((half**2).sum())
    mirror = np.clip((-right * half[0] - down * half[1] + half[2]) * norm, 0.0, 1.0)
    return (0.46 + 0.58 * lambert + 0.10 * fill), (mirror**40)
