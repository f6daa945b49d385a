"""The parts of the picture that are painted once per clip: head, hair behind it, shoulders, room.

Each is a layer: float64 RGB in 0..255 and coverage in 0..1, made by arithmetic on coordinates rather than by drawing,
so that any size shows the same person; in float64, so that other processors round to the same pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from lt_eval.synthetic import relief
from lt_eval.synthetic.relief import EYE_X, EYE_Y, MOUTH_Y, NOSE_Y

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lt_eval.synthetic.identity import Identity

    Array = NDArray[np.float64]

HEAD_LEFT, HEAD_TOP, HEAD_RIGHT, HEAD_BOTTOM = -0.62, -0.72, 0.62, 0.78
"""What the head's layer covers, in head coordinates."""

_LENGTH = {"long": 0.74, "bob": 0.42, "fringe": 0.64, "curly": 0.18}
"""How far hair hangs down beside the face, in head coordinates."""

LONG_STYLES = ("long", "bob", "fringe", "curly")


class Layer(NamedTuple):
    """`colour` float64 RGB [H, W, 3] in 0..255, `alpha` float64 [H, W] in 0..1."""

    colour: Array
    alpha: Array

    def over(self, below: Layer) -> Layer:
        """Lay this layer on another one."""
        alpha = self.alpha + below.alpha * (1 - self.alpha)
        weight = (self.alpha / np.maximum(alpha, 1e-6))[..., None]
        return Layer(self.colour * weight + below.colour * (1 - weight), alpha)


def _step(signed: Array, softness: float) -> Array:
    """Smooth 0..1 as `signed` passes zero within +-softness."""
    t = np.clip(signed / (2 * softness) + 0.5, 0.0, 1.0)
    return np.asarray(t * t * (3 - 2 * t))


def _noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> Array:
    """Smooth noise of unit variance with about that many cells across and down, the same at any size."""
    coarse = rng.standard_normal((cells[1] + 3, cells[0] + 3))
    return np.asarray(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC))


def _strands(rng: np.random.Generator, position: Array) -> Array:
    """Noise along one coordinate: hair seen across. `position` counts strands."""
    table = rng.standard_normal(4096)
    table = 0.6 * table + 0.8 * np.repeat(rng.standard_normal(512), 8)
    index = np.mod(position, 4095.0)
    low = index.astype(np.int32)
    return np.asarray(table[low] + (index - low) * (table[low + 1] - table[low]))


def _tint(colour: tuple[int, int, int], light: Array, highlight: Array | float = 0.0) -> Array:
    """A lit colour; shadows are redder than the colour itself, as in skin."""
    base = np.array(colour)
    shadow = np.stack([light**0.85, light, light**1.08], -1)
    lit = base * shadow
    gloss = np.asarray(highlight)[..., None] if np.ndim(highlight) else highlight
    return np.asarray(lit + (255.0 - lit) * gloss)


def _skin(identity: Identity, x: Array, y: Array, unit_px: float, rng: np.random.Generator) -> Array:
    """Lit skin of the face, without eyes, brows and lips."""
    light, gloss = relief.shade(relief.surface(identity, x, y), unit_px, identity.light)
    pores = _noise(rng, x.shape, (260, 280)) * 0.008 + _noise(rng, x.shape, (14, 15)) * 0.012
    colour = _tint(identity.skin, light * (1 + pores), gloss * 0.16)
    gap = EYE_X * identity.eye_gap

    def patch(at: tuple[float, float], spread: tuple[float, float]) -> Array:
        return np.asarray(np.exp(-0.5 * (((x - at[0]) / spread[0]) ** 2 + ((y - at[1]) / spread[1]) ** 2)))

    flush = 0.5 * patch((0.0, NOSE_Y - 0.02), (0.04, 0.03))
    shadow = np.zeros_like(x)
    for side in (-1, 1):
        flush = flush + 0.8 * patch((side * 0.2, 0.14), (0.07, 0.055))
        shadow += 0.20 * patch((side * gap, EYE_Y - 0.012), (0.072, 0.032)) + 0.10 * patch(
            (side * gap * 0.95, EYE_Y + 0.05), (0.06, 0.02)
        )
        shadow += 0.62 * patch((side * 0.027 * identity.nose, NOSE_Y - 0.001), (0.011 * identity.nose, 0.0055))
    shadow += 0.16 * patch((0.0, NOSE_Y + 0.022), (0.045, 0.012)) + 0.12 * patch((0.0, 0.368), (0.055, 0.012))
    warm = np.array([1.03, 0.88, 0.88])
    colour = colour * (1 + 0.75 * flush[..., None] * (warm - 1))
    colour = colour * (1 - shadow[..., None] * np.array([0.85, 1.0, 1.0]))
    if identity.freckles:
        spots = _step(_noise(rng, x.shape, (150, 158)) - 1.4, 0.5) * np.clip(flush * 0.9 + 0.06, 0, 0.5)
        colour = colour * (1 - spots[..., None] * np.array([0.30, 0.42, 0.48]))
    return np.asarray(colour)


def _ears(identity: Identity, x: Array, y: Array, pixel: float) -> Layer:
    """Both ears, partly behind the head."""
    edge = 0.357 * identity.width
    inside = np.full_like(x, -1.0)
    depth = np.zeros_like(x)
    for side in (-1, 1):
        u, v = (x - side * edge) / 0.052, (y - 0.065) / 0.098
        radius = np.sqrt(u * u + v * v)
        inside = np.maximum(inside, 1.0 - radius)
        depth += np.exp(-0.5 * ((radius - 0.45) / 0.2) ** 2) * (radius < 1)
    light = 0.92 - 0.26 * depth + 0.05 * np.sign(x) * identity.light
    return Layer(_tint(identity.skin, light) * 0.96, _step(inside * 0.07, pixel))


def _hairline(identity: Identity, x: Array) -> Array:
    """Lower edge of the hair on the forehead and temples, as y over x."""
    side = np.abs(x) / (0.36 * identity.width)
    temple = np.clip((side - 0.62) / 0.38, 0.0, 1.0) ** 1.5
    if identity.hair_style == "fringe":
        return np.asarray(-0.145 + 0.02 * np.cos(x * 40) * 0.3 + 0.2 * temple)
    if identity.hair_style == "long":
        return np.asarray(-0.40 + 0.46 * np.clip(side / 0.95, 0, 1) ** 1.7 + 0.02 * temple)
    if identity.hair_style == "bob":
        sweep = np.clip((x + 0.12) / 0.4, -1.0, 1.0)
        return np.asarray(-0.34 + 0.18 * np.abs(sweep) ** 1.3 + 0.2 * temple)
    if identity.hair_style == "swept":
        return np.asarray(-0.315 + 0.035 * np.cos(x * 9.0 + 0.6) + 0.24 * temple)
    if identity.hair_style == "short":
        return np.asarray(-0.285 - 0.05 * np.clip(x / 0.3, -1, 1) * (1 - temple) + 0.24 * temple)
    return np.asarray(-0.315 + 0.27 * temple)


_LIFT = {
    "buzz": 0.012,
    "short": 0.055,
    "swept": 0.075,
    "bun": 0.030,
    "bob": 0.060,
    "long": 0.050,
    "curly": 0.16,
    "fringe": 0.06,
}


def _hair_outline(identity: Identity, x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Signed distance-like value, positive inside the hair's outer contour."""
    lift: Array | float = _LIFT[identity.hair_style]
    width = relief.HALF_WIDTH * identity.width
    if identity.hair_style not in LONG_STYLES:
        lift = lift * np.clip((0.06 - y) / 0.32, 0.0, 1.0) ** 0.8
    u, v = x / (width + lift * 0.75), (y + 0.06) / (0.44 + lift)
    radius = np.sqrt(u * u + np.where(v < 0, v * v, 0.35 * v * v))
    ragged = 0.0
    if identity.hair_style == "curly":
        angle = np.arctan2(x, -y)
        table = rng.standard_normal(64)
        ragged = 0.03 * np.interp(angle * 9, np.arange(-32, 32), table) + 0.02 * np.sin(angle * 37)
    elif identity.hair_style in ("short", "swept"):
        ragged = 0.012 * np.sin(np.arctan2(x, -y) * 23 + 2 * np.sin(x * 30))
    return np.asarray((1.0 - radius + ragged) * (width + lift))


def _hair_colour(identity: Identity, x: Array, y: Array, rng: np.random.Generator, *, behind: bool = False) -> Array:
    """Strands that fall from the crown, with a band of gloss."""
    style = identity.hair_style
    if style == "curly":
        curls = _noise(rng, x.shape, (34, 36)) * 0.16 + _noise(rng, x.shape, (90, 95)) * 0.10
        light = 0.9 - 0.30 * (y + 0.45) + curls
        gloss = np.clip(curls - 0.18, 0, 1) * 0.35
    else:
        pole_y = -0.62 if style in ("short", "buzz", "swept", "bun") else -0.95
        angle = np.arctan2(x, np.abs(y - pole_y) + 0.05)
        strand = _strands(rng, (angle + 2.0) * (150 if pole_y > -0.9 else 260) + 2.0 * np.sin(y * 9 + x * 4))
        light = 0.92 - 0.22 * np.abs(x) / 0.4 + 0.10 * strand + 0.16 * identity.light * x / 0.4
        band = np.exp(-0.5 * ((y + 0.40 - 0.9 * x * x) / 0.05) ** 2)
        gloss = np.clip(0.16 * band * (1 + 0.5 * strand), 0, 0.4)
    if behind:
        light, gloss = light * 0.62, gloss * 0.0
    return _tint(identity.hair, np.clip(light, 0.25, 1.4), gloss)


def _beard(identity: Identity, x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Coverage of beard and moustache, 0..1."""
    width = relief.half_width(identity, y) + 1e-4
    side = np.abs(x) / width
    cheek_line = 0.30 - 0.22 * np.clip((side - 0.35) / 0.6, 0, 1) ** 1.2
    area = _step(y - cheek_line, 0.035)
    u, v = x / 0.150, (y - MOUTH_Y) / 0.074
    bare = _step(1.0 - np.sqrt(u * u + v * v), 0.22)
    moustache = _step(1.0 - np.sqrt((x / 0.135) ** 2 + ((y - 0.243 - 1.1 * x * x) / 0.022) ** 2), 0.5)
    strand = 0.85 + 0.15 * _strands(rng, x * 420 + 3 * np.sin(y * 40)) + 0.08 * _noise(rng, x.shape, (200, 210))
    cover = np.maximum(area * (1 - bare), moustache * 0.95) * strand
    return np.asarray(np.clip(cover, 0, 1) * (0.93 if identity.beard == "full" else 0.34))


def head(identity: Identity, unit_px: float) -> Layer:
    """Paint the head without eyes, brows and lips, at `unit_px` pixels a head height."""
    rng = np.random.Generator(np.random.PCG64([identity.texture_seed, 0]))
    columns = round((HEAD_RIGHT - HEAD_LEFT) * unit_px)
    rows = round((HEAD_BOTTOM - HEAD_TOP) * unit_px)
    xs = HEAD_LEFT + (np.arange(columns) + 0.5) / unit_px
    ys = HEAD_TOP + (np.arange(rows) + 0.5) / unit_px
    x, y = np.meshgrid(xs, ys)
    pixel = 0.75 / unit_px

    # Distance to the outline, measured across it: sideways at the cheeks, upwards at the crown and the chin.
    scaled = np.sqrt(x * x + y * y) + 1e-5
    angle_y = np.linspace(-0.5, 0.5, 801)
    outline_x = relief.half_width(identity, angle_y)
    reach = np.interp(np.arctan2(y, np.abs(x)), np.arctan2(angle_y, outline_x), np.hypot(outline_x, angle_y))
    inside = reach - scaled

    skin = _skin(identity, x, y, unit_px, rng)
    rim = np.clip(1.0 - inside / 0.05, 0, 1) ** 2 * 0.22
    skin = skin * (1 - rim[..., None])
    if identity.beard != "none":
        cover = _beard(identity, x, y, rng)[..., None]
        light = np.clip(skin.mean(-1, keepdims=True) / (np.mean(identity.skin) * 0.95), 0.4, 1.2)
        skin = skin * (1 - cover) + np.array(identity.hair) * light * cover
    layer = Layer(skin, _step(inside, pixel))
    if identity.hair_style not in LONG_STYLES:
        layer = layer.over(_ears(identity, x, y, pixel))
    if identity.hair_style == "bald":
        return layer

    outer = _hair_outline(identity, x, y, rng)
    wisps = _strands(rng, x * 300) * (0.004 if identity.hair_style == "buzz" else 0.007)
    line = _hairline(identity, x) + wisps
    soft = 0.02 if identity.hair_style == "buzz" else 0.008
    cover = _step(line - y, soft) * _step(outer, max(pixel, 0.004))
    if identity.hair_style in LONG_STYLES:
        cover = np.maximum(cover, _curtains(identity, x, y, pixel))
    if identity.hair_style == "bun":
        ball = 1.0 - np.sqrt((x / 0.15) ** 2 + ((y + 0.565) / 0.125) ** 2)
        cover = np.maximum(cover, _step(ball * 0.13, pixel))
    if identity.hair_style == "buzz":
        cover = cover * 0.82
    cast = np.clip(1 - np.abs(y - line - 0.012) / 0.03, 0, 1) * 0.18 * (layer.alpha > 0)
    layer = Layer(layer.colour * (1 - cast[..., None]), layer.alpha)
    return Layer(_hair_colour(identity, x, y, rng), cover).over(layer)


def _fall(identity: Identity, x: Array, y: Array, length: float) -> Array:
    """Half the width of long hair below the temples: it widens, waves a little and closes at its ends."""
    ends = np.clip((y - length + 0.22) / 0.22, 0.0, 1.0)
    wave = 0.010 * np.sin(y * 13 + np.sign(x) * 0.7 + identity.texture_seed % 7)
    full = relief.HALF_WIDTH * identity.width + 0.75 * _LIFT[identity.hair_style]
    return np.asarray(
        full + (0.06 * np.clip(y + 0.06, 0, 0.5) + wave) * np.clip((y + 0.06) / 0.2, 0, 1) - 0.10 * ends**2
    )


def _curtains(identity: Identity, x: Array, y: Array, pixel: float) -> Array:
    """Hair in front of the ears, down the sides of the face."""
    width = relief.HALF_WIDTH * identity.width
    length = _LENGTH[identity.hair_style]
    inner = width * (0.90 + 0.10 * np.clip(y / 0.4, 0, 1.5)) - 0.02 * np.cos(y * 7)
    outside = _fall(identity, x, y, length)
    band = np.minimum(np.abs(x) - inner, outside - np.abs(x))
    return np.asarray(_step(band, max(pixel, 0.006)) * _step(length - y, 0.02) * _step(y + 0.06, 0.02))


def hair_behind(identity: Identity, unit_px: float) -> Layer | None:
    """Paint the hair that hangs behind the head and the neck, or None for short styles; extent as of the head."""
    if identity.hair_style not in LONG_STYLES:
        return None
    rng = np.random.Generator(np.random.PCG64([identity.texture_seed, 1]))
    columns = round((HEAD_RIGHT - HEAD_LEFT) * unit_px)
    rows = round((HEAD_BOTTOM - HEAD_TOP) * unit_px)
    xs = HEAD_LEFT + (np.arange(columns) + 0.5) / unit_px
    ys = HEAD_TOP + (np.arange(rows) + 0.5) / unit_px
    x, y = np.meshgrid(xs, ys)
    pixel = 0.75 / unit_px
    outer = _hair_outline(identity, x, y, rng)
    if identity.hair_style == "curly":
        cover = _step(outer, pixel) * _step(0.42 - y + 0.03 * np.sin(x * 45), 0.05)
    else:
        length = _LENGTH[identity.hair_style]
        reach = _fall(identity, x, y, length)
        cover = _step(reach - np.abs(x), 0.008) * _step(length - y + 0.012 * np.sin(x * 60), 0.02) * (y > -0.06)
        cover = np.maximum(cover, _step(outer, pixel) * (y <= -0.06))
    return Layer(_hair_colour(identity, x, y, rng, behind=True), cover)
