"""Shoulders and room: the rest of the picture that is painted once per clip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from lt_eval.synthetic.portrait import Layer, _noise, _step, _tint

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lt_eval.synthetic.identity import Identity

    Array = NDArray[np.float64]


def shoulders(identity: Identity, size: int, margin: int) -> Layer:
    """Paint neck and torso on a canvas of the frame's size plus `margin` pixels at the left, right and bottom.

    The margin is what comes into view when the body sways.
    """
    rng = np.random.Generator(np.random.PCG64([identity.texture_seed, 2]))
    unit = identity.head_height * size
    rows, columns = size + margin, size + 2 * margin
    xs = (np.arange(columns) + 0.5 - margin) / unit - identity.head_x / identity.head_height
    ys = (np.arange(rows) + 0.5) / unit - identity.head_y / identity.head_height
    x, y = np.meshgrid(xs, ys)
    pixel = 0.75 / unit
    broad = 0.92 + 0.25 * (identity.jaw - 0.86)

    neck_half = 0.172 * identity.jaw * (1 + 0.9 * np.clip(y - 0.55, 0, 1) ** 1.5)
    across = np.clip(x / neck_half, -1.3, 1.3)
    light = 0.98 - 0.20 * across**2 + 0.16 * identity.light * across
    under_chin = np.exp(-0.5 * ((y - 0.47 - 0.35 * x * x) / 0.085) ** 2)
    light = light * (1 - 0.42 * under_chin) * (1 - 0.07 * np.exp(-0.5 * ((np.abs(x) - 0.07) / 0.02) ** 2))
    neck = Layer(_tint(identity.skin, np.clip(light, 0.2, 1.2)), _step(neck_half - np.abs(x), pixel * 1.3))

    slope = 0.655 + 0.10 * np.clip(np.abs(x) - 0.16, 0, 9) + 0.50 * np.clip((np.abs(x) - 0.16) / broad, 0, 9) ** 2.2
    trunk = _step(y - slope, pixel * 1.5) * (np.abs(x) < broad * 1.1 + 0.4 * np.clip(y - 0.6, 0, 1))
    folds = _noise(rng, x.shape, (9, 9)) * 0.05 + _noise(rng, x.shape, (150, 150)) * 0.012
    cloth_light = 1.02 - 0.28 * np.clip(np.abs(x) / broad, 0, 1.2) ** 2 - 0.12 * np.clip(y - 0.7, 0, 1) + folds
    cloth_light = cloth_light + 0.14 * identity.light * x / broad
    cloth_light = cloth_light * (1 - 0.25 * np.exp(-0.5 * ((y - slope) / 0.025) ** 2))
    cloth = np.asarray(np.array(identity.top) * cloth_light[..., None])
    cloth, opening = _collar(identity, x, y, cloth, cloth_light, pixel)
    torso = Layer(cloth, np.asarray(trunk * (1 - opening)))
    chest_light = np.clip(0.96 - 0.5 * np.clip(np.abs(x), 0, 1) - 0.15 * (y - 0.6), 0.3, 1.1)
    chest = Layer(_tint(identity.skin, chest_light), np.asarray(trunk))
    return torso.over(neck.over(chest))


def _collar(identity: Identity, x: Array, y: Array, cloth: Array, light: Array, pixel: float) -> tuple[Array, Array]:
    """Return the cloth with its collar drawn on, and where skin shows through."""
    side = np.abs(x)
    if identity.clothes == "crew":
        ring = np.sqrt((x / 0.235) ** 2 + ((y - 0.60) / 0.135) ** 2)
        hem = np.exp(-0.5 * ((ring - 1.08) / 0.035) ** 2)[..., None]
        return cloth * (1 - 0.16 * hem), _step((1 - ring) * 0.14, pixel * 1.5)
    if identity.clothes == "vneck":
        edge = 0.235 * np.clip((0.98 - y) / 0.38, 0, 1) ** 0.85 - side
        hem = np.exp(-0.5 * ((edge + 0.018) / 0.010) ** 2)[..., None]
        return cloth * (1 - 0.20 * hem), _step(edge, pixel * 1.5)
    edge = 0.17 * np.clip((0.86 - y) / 0.26, 0, 1) - side
    flap = _step(edge + 0.115 - 0.10 * np.clip((y - 0.62) / 0.2, 0, 1), pixel * 1.5) * _step(
        0.84 - y - 0.6 * side, 0.004
    )
    shade = (1 - 0.22 * np.exp(-0.5 * ((edge + 0.10) / 0.012) ** 2))[..., None]
    if identity.clothes == "shirt":
        cloth = cloth * (1 - flap[..., None]) + np.array(identity.top) * 1.07 * light[..., None] * flap[..., None]
        seam = np.exp(-0.5 * ((x - 0.012) / 0.004) ** 2)[..., None] * (y > 0.86)[..., None]
        return cloth * shade * (1 - 0.25 * seam), _step(edge, pixel * 1.5)
    lapel_edge = 0.30 * np.clip((1.35 - y) / 0.7, 0, 1) - side
    white = np.array((236, 234, 230)) * light[..., None]
    inner = _step(lapel_edge, pixel * 1.5)[..., None]
    fold = (1 - 0.35 * np.exp(-0.5 * ((lapel_edge + 0.008) / 0.008) ** 2))[..., None]
    return (cloth * fold) * (1 - inner) + white * shade * inner, _step(edge, pixel * 1.5)


def room(identity: Identity, size: int) -> Array:
    """Paint what lies behind the person, out of focus: float64 RGB [size, size, 3]."""
    rng = np.random.Generator(np.random.PCG64([identity.texture_seed, 3]))
    axis = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(axis, axis)
    base = np.array(identity.room)
    glow = np.exp(-0.5 * (((x - 0.5 - 0.3 * identity.light) / 0.5) ** 2 + ((y - 0.3) / 0.5) ** 2))
    picture = base * (0.72 + 0.36 * glow)[..., None]
    if identity.backdrop == "lights":
        for _ in range(22):
            cx, cy, radius = rng.random(), rng.random() * 0.8, 0.02 + 0.05 * rng.random()
            hue = np.array((255, 200 + 50 * rng.random(), 120 + 120 * rng.random()))
            disc = _step(radius - np.sqrt((x - cx) ** 2 + (y - cy) ** 2), 0.006) * (0.12 + 0.25 * rng.random())
            picture = picture * (1 - disc[..., None]) + hue * disc[..., None]
    elif identity.backdrop == "shelves":
        picture = _shelves(picture, x, y, rng)
    elif identity.backdrop == "window":
        left = 0.04 if identity.light < 0 else 0.60
        pane = _step(np.minimum(x - left, left + 0.36 - x), 0.01) * _step(np.minimum(y - 0.05, 0.62 - y), 0.01)
        bars = np.maximum(np.exp(-0.5 * ((x - left - 0.18) / 0.008) ** 2), np.exp(-0.5 * ((y - 0.33) / 0.008) ** 2))
        sky = np.stack([196 + 40 * y, 218 + 20 * y, 240 - 10 * y], -1)
        view = pane * (1 - 0.8 * bars)
        picture = picture * (1 - view[..., None]) + sky * view[..., None]
    elif identity.backdrop == "outdoors":
        sky = np.stack([168 + 60 * y, 196 + 36 * y, 226 + 6 * y], -1)
        hills = 0.52 + 0.05 * np.interp(x, np.linspace(0, 1, 9), rng.standard_normal(9))
        leaves = _noise(rng, x.shape, (26, 26))[..., None] * 16
        green = np.array((92, 124, 78)) * (1.15 - 0.4 * y)[..., None] + leaves
        land = _step(y - hills, 0.015)[..., None]
        picture = sky * (1 - land) + green * land
    else:
        picture = (
            picture * (1 + 0.025 * _noise(rng, x.shape, (6, 6)) + 0.01 * _noise(rng, x.shape, (90, 90)))[..., None]
        )
    blurred = cv2.GaussianBlur(picture, (0, 0), 0.008 * size)
    vignette = 1 - 0.28 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
    return np.asarray(np.clip(blurred * vignette[..., None], 0, 255))


def _shelves(picture: Array, x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Rows of books."""
    for row in range(4):
        top, bottom = 0.03 + 0.25 * row, 0.23 + 0.25 * row
        edge = 0.0
        while edge < 1.0:
            width, height = 0.025 + 0.03 * rng.random(), 0.6 + 0.38 * rng.random()
            hue = np.array((60 + 140 * rng.random(), 60 + 110 * rng.random(), 60 + 110 * rng.random()))
            begin = bottom - (bottom - top) * height
            inside = (x >= edge) & (x < edge + width) & (y >= begin) & (y < bottom) & (rng.random() < 0.9)
            picture = np.where(inside[..., None], 0.35 * picture + 0.5 * hue, picture)
            edge += width
        plank = ((y >= bottom) & (y < bottom + 0.018))[..., None]
        picture = np.where(plank, picture * 0.6, picture)
    return np.asarray(picture)
