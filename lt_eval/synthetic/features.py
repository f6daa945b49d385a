"""The parts of a face that change from frame to frame: mouth, eyes and brows, drawn as small sprites.

Contours are computed in head coordinates, placed into the picture by the caller, drawn at a multiple of its resolution
and averaged down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from lt_eval.synthetic.relief import BROW_Y, EYE_X, EYE_Y, MOUTH_Y

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from lt_eval.records import Frames
    from lt_eval.synthetic.identity import Colour, Identity
    from lt_eval.synthetic.motion import Look
    from lt_eval.synthetic.phonemes import Mouth

    Points = NDArray[np.float64]
    Place = Callable[[Points], Points]

JAW_DROP = 0.060
"""How far the chin sinks at jaw 1, in head heights."""

_SHIFT = 4
_U = np.linspace(-1.0, 1.0, 25)
_ARCH = 1.0 - np.abs(_U) ** 2.2
_BOWL = 1.0 - _U**2


class Lips(NamedTuple):
    """Contours of the lips, [25, 2] each, from the left corner to the right one, in head coordinates."""

    outer_top: Points
    inner_top: Points
    inner_bottom: Points
    outer_bottom: Points


def aperture(mouth: Mouth) -> tuple[float, float]:
    """How far the inner lips stand above and below the line where they meet, in head heights; 0, 0 when closed."""
    above = 0.008 * mouth.jaw + 0.015 * mouth.teeth
    below = 0.064 * mouth.jaw + 0.013 * mouth.teeth + 0.006 * mouth.rounding
    above += mouth.labiodental * (0.019 - above)
    below += mouth.labiodental * (0.006 - below)
    open_part = 1.0 - mouth.closure
    return above * open_part, below * open_part


def lips(identity: Identity, mouth: Mouth, smile: float = 0.0) -> Lips:
    """Return the contours of the lips for a mouth shape."""
    above, below = aperture(mouth)
    half = 0.106 * identity.mouth * (1.0 + 0.20 * mouth.width + 0.10 * smile - 0.10 * mouth.rounding)
    half *= 1.0 - 0.06 * mouth.jaw * (1 - mouth.closure)
    pressed = 1.0 - 0.25 * mouth.closure
    pout = 1.0 + 0.28 * mouth.rounding
    top = 0.0235 * identity.lips * pressed * pout * (1.0 - 0.25 * mouth.labiodental)
    bottom = 0.0320 * identity.lips * pressed * pout * (1.0 - 0.40 * mouth.labiodental)
    # Corners rise in a smile and sink a little with the jaw.
    line = MOUTH_Y + 0.006 * mouth.jaw * (1 - mouth.closure) * _U**2 - (0.003 + 0.018 * smile) * np.abs(_U) ** 2.5
    line = line + 0.003 * np.cos(np.pi * _U) * (1 - np.abs(_U))
    sharp = 0.85 - 0.35 * mouth.rounding
    bow = 1.0 - 0.26 * np.exp(-((_U / 0.13) ** 2)) + 0.10 * np.exp(-(((np.abs(_U) - 0.28) / 0.16) ** 2))
    inner_top = line - above * _ARCH ** (sharp * 0.8)
    inner_bottom = line + below * _BOWL**sharp
    outer_top = inner_top - top * bow * (1.0 - np.abs(_U) ** 2.6) ** 0.9
    outer_bottom = inner_bottom + bottom * (1.0 - np.abs(_U) ** 2.4) ** 0.85
    x = half * _U
    inner_x = 0.955 * x
    return Lips(
        *(np.stack(c, 1) for c in ((x, outer_top), (inner_x, inner_top), (inner_x, inner_bottom), (x, outer_bottom)))
    )


def _loop(first: Points, second: Points) -> Points:
    """Close two left-to-right curves into one polygon."""
    return np.concatenate([first, second[::-1]])


class Sprite:
    """A small picture over a box of the frame, at `zoom` times its resolution; dissolved into the frame by `paste`."""

    def __init__(self, box: tuple[int, int, int, int], zoom: int, place: Place, base: Colour) -> None:
        self.left, self.top, right, bottom = box
        self.zoom, self._place = zoom, place
        self.shape = ((bottom - self.top) * zoom, (right - self.left) * zoom)
        self.colour = np.empty((*self.shape, 3), np.uint8)
        self.colour[:] = base
        self.alpha = np.zeros(self.shape, np.uint8)

    def points(self, contour: Points) -> NDArray[np.int32]:
        """Head coordinates -> fixed-point pixels of the sprite."""
        placed = (self._place(contour) - (self.left, self.top)) * self.zoom - 0.5
        return np.asarray(np.rint(placed * (1 << _SHIFT)), np.int32)

    def mask(self, contour: Points) -> NDArray[np.uint8]:
        """Return 255 inside the contour, 0 outside."""
        mask = np.zeros(self.shape, np.uint8)
        cv2.fillPoly(mask, [self.points(contour)], 255, cv2.LINE_8, _SHIFT)
        return mask

    def fill(self, target: NDArray[np.uint8], contour: Points, colour: Colour | int) -> None:
        """Fill a contour on the colours or on the coverage."""
        cv2.fillPoly(target, [self.points(contour)], colour, cv2.LINE_8, _SHIFT)

    def line(self, target: NDArray[np.uint8], contour: Points, colour: Colour | int, width_px: float) -> None:
        """Draw an open curve; `width_px` in pixels of the frame."""
        width = max(1, round(width_px * self.zoom))
        cv2.polylines(target, [self.points(contour)], False, colour, width, cv2.LINE_8, _SHIFT)

    def blur(self, picture: NDArray[np.uint8], spread_px: float) -> NDArray[np.uint8]:
        """Blur by `spread_px` pixels of the frame."""
        radius = max(1, round(2.2 * spread_px * self.zoom))
        spread = max(0.3, spread_px * self.zoom)
        return np.asarray(cv2.GaussianBlur(picture, (2 * radius + 1, 2 * radius + 1), spread), np.uint8)

    def paste(self, frame: Frames) -> None:
        """Dissolve the sprite into the frame, in place."""
        height, width = self.shape[0] // self.zoom, self.shape[1] // self.zoom
        colour = cv2.resize(self.colour, (width, height), interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(self.alpha, (width, height), interpolation=cv2.INTER_AREA)
        rows, columns = frame.shape[:2]
        top, left = max(0, -self.top), max(0, -self.left)
        below, right = min(height, rows - self.top), min(width, columns - self.left)
        if top >= below or left >= right:
            return
        view = frame[self.top + top : self.top + below, self.left + left : self.left + right]
        cover = alpha[top:below, left:right, None].astype(np.int32)
        mixed = view * (255 - cover) + colour[top:below, left:right] * cover
        view[:] = (mixed + 127) // 255


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def draw_mouth(sprite: Sprite, identity: Identity, mouth: Mouth, smile: float, unit_px: float) -> None:
    """Draw lips, teeth, tongue and the dark behind them."""
    contour = lips(identity, mouth, smile)
    lip, dark = identity.lip, _mix(identity.lip, (60, 16, 20), 0.42)
    sprite.colour[:] = _mix(lip, identity.skin, 0.25)
    sprite.fill(sprite.colour, _loop(contour.outer_top, contour.inner_top), _mix(lip, dark, 0.38))
    sprite.fill(sprite.colour, _loop(contour.inner_bottom, contour.outer_bottom), lip)
    gloss_top = contour.inner_bottom + 0.28 * (contour.outer_bottom - contour.inner_bottom)
    gloss_bottom = contour.inner_bottom + 0.58 * (contour.outer_bottom - contour.inner_bottom)
    sprite.fill(sprite.colour, _loop(gloss_top[6:19], gloss_bottom[6:19]), _mix(lip, (255, 238, 232), 0.34))
    sprite.line(sprite.colour, contour.outer_bottom[3:-3], _mix(lip, dark, 0.30), 0.006 * unit_px)
    sprite.colour = sprite.blur(sprite.colour, 0.0065 * unit_px)
    sprite.fill(sprite.alpha, _loop(contour.outer_top, contour.outer_bottom), 255)
    sprite.alpha = sprite.blur(sprite.alpha, 0.0038 * unit_px)
    above, below = aperture(mouth)
    if above + below > 0.0015:
        inner = sprite.mask(_loop(contour.inner_top, contour.inner_bottom))
        cv2.copyTo(_inside(sprite, contour, mouth, above, below, unit_px), inner, sprite.colour)
    rim = max(0.6, 0.0065 * unit_px)
    shadow = _mix(dark, (24, 6, 8), 0.45)
    sprite.line(sprite.colour, contour.inner_top, shadow, rim)
    if above + below < 0.012:
        sprite.line(sprite.colour, contour.inner_bottom, shadow, 0.7 * rim)
    sprite.colour = sprite.blur(sprite.colour, 0.0018 * unit_px)


def _tongue(top_y: float, half: float, height: float) -> Points:
    """Return a rounded shape with its highest point at `top_y`."""
    middle = top_y + 0.5 * height
    return _loop(
        np.stack([half * _U, middle - 0.5 * height * np.sqrt(_BOWL)], 1),
        np.stack([half * _U, middle + 0.5 * height * np.sqrt(_BOWL)], 1),
    )


def _inside(
    sprite: Sprite, contour: Lips, mouth: Mouth, above: float, below: float, unit_px: float
) -> NDArray[np.uint8]:
    """Paint what the open lips show, over the whole sprite."""
    picture = np.empty_like(sprite.colour)
    picture[:] = (58, 20, 22)
    half = float(contour.inner_top[-1, 0])
    jaw_y = MOUTH_Y + JAW_DROP * mouth.jaw * (1 - mouth.closure)
    throat = np.stack([0.55 * half * _U, MOUTH_Y + 0.45 * below - 0.8 * below * np.sqrt(_BOWL)], 1)
    bottom = np.stack([0.55 * half * _U, MOUTH_Y + 0.45 * below + 0.5 * below * np.sqrt(_BOWL)], 1)
    sprite.fill(picture, _loop(throat, bottom), (30, 9, 11))

    back_y = jaw_y - 0.030 * mouth.jaw - 0.004
    sprite.fill(picture, _tongue(back_y, 0.056, 0.034), (150, 66, 68))
    sprite.fill(picture, _tongue(back_y + 0.006, 0.034, 0.012), (172, 84, 84))
    lower = np.stack([0.064 * _U, jaw_y - 0.010 + 0.024 * mouth.rounding + 0.010 * _U**2], 1)
    gums = np.stack([0.064 * _U, np.full(len(_U), jaw_y + 0.06)], 1)
    sprite.fill(picture, _loop(lower, gums), (198, 188, 176))
    if mouth.tongue > 0.05:
        tip_y = back_y + mouth.tongue * (MOUTH_Y + 0.003 - back_y)
        sprite.fill(picture, _tongue(tip_y, 0.048, 0.016 + 0.022 * mouth.tongue), (186, 90, 90))
        sprite.fill(picture, _tongue(tip_y + 0.010, 0.026, 0.008 + 0.006 * mouth.tongue), (208, 116, 112))
    picture = sprite.blur(picture, 0.0055 * unit_px)

    edge = MOUTH_Y + 0.010 - 0.012 * mouth.rounding - 0.009 * np.abs(_U) ** 2.5
    upper = np.stack([0.078 * _U, edge], 1)
    roots = np.stack([0.078 * _U, np.full(len(_U), MOUTH_Y - 0.05)], 1)
    sprite.fill(picture, _loop(roots, upper), (214, 206, 196))
    sprite.fill(picture, _loop(roots[5:20], upper[5:20]), (236, 230, 222))
    for share in (-0.5, -0.24, 0.0, 0.24, 0.5):
        gap = np.array([[0.078 * share, MOUTH_Y - 0.03], [0.078 * share, MOUTH_Y + 0.008]])
        sprite.line(picture, gap, (206, 196, 186), 0.0028 * unit_px)
    # The upper lip throws a shadow on the teeth, and the corners of the mouth lie in the dark.
    lit = np.full(sprite.shape, 255, np.uint8)
    sprite.line(lit, contour.inner_top, 110, 0.016 * unit_px)
    for corner in (contour.inner_top[:4], contour.inner_top[-4:]):
        sprite.line(lit, corner, 60, 0.030 * unit_px)
    lit = sprite.blur(lit, 0.008 * unit_px)
    return np.asarray(cv2.multiply(picture, cv2.merge([lit, lit, lit]), scale=1 / 255), np.uint8)


def draw_eye(sprite: Sprite, identity: Identity, side: int, look: Look, unit_px: float) -> None:
    """Draw one eye and its brow; `side` is -1 for the left of the picture."""
    size = identity.eye_size
    centre = np.array([side * EYE_X * identity.eye_gap, EYE_Y])
    outward = _U * side
    tilt = -0.022 * identity.eye_tilt * 4 * outward
    half, top, low = 0.067 * size, 0.0310 * size, 0.0185 * size
    open_part = 1.0 - look.blink
    lower_y = (low - 0.004 * look.smile) * _BOWL**0.8 + tilt
    upper_y = -top * (1 - np.abs(_U + 0.12 * side) ** 2.3).clip(0) ** 0.75 * (1 - np.abs(_U) ** 6) + tilt
    upper_y = lower_y * 0.85 * look.blink + upper_y * open_part
    upper, lower = (centre + np.stack([half * _U, y], 1) for y in (upper_y, lower_y))
    skin_dark = _mix(identity.skin, (50, 24, 20), 0.45)
    lash = _mix(identity.hair, (20, 14, 12), 0.75)

    _draw_brow(sprite, identity, side, look, unit_px)
    crease = centre + np.stack(
        [half * 1.04 * _U, upper_y * (0.95 + 0.15 * look.blink) - 0.013 * open_part * _ARCH - 0.004], 1
    )
    shade = np.zeros(sprite.shape, np.uint8)
    sprite.line(shade, crease[2:-2], 120, 0.007 * unit_px)
    shade = sprite.blur(shade, 0.0035 * unit_px)
    _lay(sprite, shade, skin_dark)

    if open_part > 0.04:
        eye = sprite.mask(_loop(upper, lower))
        picture = _eyeball(sprite, identity, centre, half, look, upper, unit_px)
        cv2.copyTo(picture, eye, sprite.colour)
        cv2.max(sprite.alpha, eye, sprite.alpha)
    rim = np.zeros(sprite.shape, np.uint8)
    sprite.line(rim, lower[3:-1] if side > 0 else lower[1:-3], 110, 0.005 * unit_px)
    sprite.line(rim, upper, 235, (0.0065 + 0.005 * identity.lashes) * unit_px)
    if identity.lashes > 0.5:
        corner = upper[-1] if side > 0 else upper[0]
        flick = np.array(
            [corner - np.array([0.004 * side, 0.0]), corner + np.array([side * 0.010 * identity.lashes, -0.006])]
        )
        sprite.line(rim, flick, 220, 0.007 * unit_px)
    rim = sprite.blur(rim, 0.0016 * unit_px)
    _lay(sprite, rim, lash)


def _lay(sprite: Sprite, cover: NDArray[np.uint8], colour: Colour) -> None:
    """Lay one colour on the sprite with that coverage, straight alpha."""
    touched = cv2.boundingRect(cover)
    left, top, width, height = touched
    if not width:
        return
    span = (slice(top, top + height), slice(left, left + width))
    new = cover[span].astype(np.int32)
    old = sprite.alpha[span].astype(np.int32)
    total = new + old - (new * old + 127) // 255
    weight = ((new * 255 + total // 2) // np.maximum(total, 1))[..., None]
    mixed = np.array(colour, np.int32) * weight + sprite.colour[span] * (255 - weight)
    sprite.colour[span] = (mixed + 127) // 255
    sprite.alpha[span] = total


def _circle(centre: Points, radius: float) -> Points:
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    return centre + radius * np.stack([np.cos(angle), np.sin(angle)], 1)


def _eyeball(
    sprite: Sprite, identity: Identity, centre: Points, half: float, look: Look, upper: Points, unit_px: float
) -> NDArray[np.uint8]:
    picture = np.empty_like(sprite.colour)
    picture[:] = (226, 222, 218)
    middle = centre + np.array([look.gaze_x * 0.026, -0.004 + look.gaze_y * 0.012])
    radius = 0.0290 * identity.eye_size
    iris = identity.iris
    sprite.fill(picture, _circle(middle, radius), _mix(iris, (10, 8, 8), 0.55))
    sprite.fill(picture, _circle(middle, 0.86 * radius), iris)
    sprite.fill(
        picture, _circle(middle + np.array([0.0, 0.30 * radius]), 0.55 * radius), _mix(iris, (235, 220, 190), 0.22)
    )
    sprite.fill(picture, _circle(middle, 0.44 * radius), (12, 10, 10))
    picture = sprite.blur(picture, 0.0022 * unit_px)
    lit = np.full(sprite.shape, 255, np.uint8)
    sprite.line(lit, upper, 120, 0.020 * unit_px)
    lit = sprite.blur(lit, 0.0065 * unit_px)
    picture = np.asarray(cv2.multiply(picture, cv2.merge([lit, lit, lit]), scale=1 / 255), np.uint8)
    glint = middle + radius * np.array([0.34 if identity.light > 0 else -0.34, -0.36])
    sprite.fill(picture, _circle(glint, 0.17 * radius), (250, 250, 248))
    return picture


def _draw_brow(sprite: Sprite, identity: Identity, side: int, look: Look, unit_px: float) -> None:
    along = np.linspace(0.0, 1.0, 15)
    inner_x, outer_x = 0.068, 0.248
    x = side * (inner_x + (outer_x - inner_x) * along) * (0.4 + 0.6 * identity.eye_gap)
    arch = BROW_Y - 0.024 * np.sin(np.pi * 0.85 * along) + 0.002 * (1 - along) ** 2 + 0.005 * along - 0.026 * look.brow
    thick = 0.0125 * identity.brow * (1 - 0.75 * along**1.6) * (0.55 + 0.45 * np.clip(along / 0.15, 0, 1))
    cover = np.zeros(sprite.shape, np.uint8)
    sprite.fill(cover, _loop(np.stack([x, arch - thick], 1), np.stack([x, arch + thick], 1)), 215)
    _lay(sprite, sprite.blur(cover, 0.0045 * unit_px), _mix(identity.hair, (40, 30, 26), 0.35))
