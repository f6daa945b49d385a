"""Faces of the procedural talker as an identity network meets them: other rooms and clothes, expressions, sizes, light.

A person is `make_spec(seed).identity` as far as the face and its hair go. Clothes, room, light and place in the frame
are not: every person is drawn in several settings, so that a network cannot tell people by the wall behind them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lt_eval.metrics.face_alignment import SCALE, aligned_face
from lt_eval.metrics.nets.slim_facenet import SIDE
from lt_eval.records import Frames
from lt_eval.synthetic.face import Face
from lt_eval.synthetic.identity import Identity, make_identity
from lt_eval.synthetic.phonemes import Mouth
from lt_eval.synthetic.talker import perform

REGION_PX = 80
"""Side of what is kept of a frame: the network's window of 56 pixels with room for boxes that are off."""

SETTINGS = 2
LOOKS = 6
"""Frames a setting."""


def seed_of(first: int, person: int) -> int:
    """Return the seed of a person: none that the demo (1000 k + 6 to 38) has."""
    return first + 1000 * (person // 900) + 100 + person % 900


def in_setting(identity: Identity, rng: Generator) -> Identity:
    """Return the same face and hair in other clothes, another room, light and place."""
    other = make_identity(rng)
    names = ("top", "clothes", "backdrop", "room", "room_name", "light", "head_height", "head_x", "head_y")
    return dataclasses.replace(identity, **{name: getattr(other, name) for name in names})


def faces_of(seed: int) -> Frames:
    """Return uint8 RGB [SETTINGS * LOOKS, 80, 80, 3] of one person, moments of eight seconds of talking."""
    rng = np.random.Generator(np.random.PCG64([seed, 23]))
    show = perform(seed, 8.0)
    found = []
    for number in range(SETTINGS):
        identity = in_setting(show.spec.identity, rng) if number else show.spec.identity
        face = Face(identity, int(rng.choice([128, 192, 256], p=[0.35, 0.4, 0.25])))
        for index in rng.choice(len(show), LOOKS, replace=False):
            mouth, pose = Mouth(*show.mouth[index]), show.poses[index]
            frame = face.draw(mouth, pose, show.looks[index])
            box = np.array(face.box(mouth, pose)) * face.size
            found.append(aligned_face(frame, box, SCALE * REGION_PX / SIDE, REGION_PX))
    return np.stack(found)


def people(first: int, count: int, folder: Path, report: Callable[[int, int], None]) -> Frames:
    """Return uint8 RGB [count, SETTINGS * LOOKS, 80, 80, 3], a map of a file that is made where it is absent."""
    path = folder / f"faces-{first}-{count}-{SETTINGS}x{LOOKS}.npy"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        every = np.empty((count, SETTINGS * LOOKS, REGION_PX, REGION_PX, 3), np.uint8)
        for person in range(count):
            every[person] = faces_of(seed_of(first, person))
            report(person + 1, count)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, every)
        partial.replace(path)
    found: Frames = np.load(path, mmap_mode="r")
    return found


def window(region: Frames, rng: Generator | None = None) -> Frames:
    """Return uint8 RGB [56, 56, 3] of a region: its middle; with `rng`, as other cameras, boxes and codecs show it."""
    if rng is None:
        edge = (REGION_PX - SIDE) // 2
        return np.asarray(region[edge : edge + SIDE, edge : edge + SIDE])
    picture = cv2.warpAffine(region, _framing(rng), (SIDE, SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    if rng.random() < 0.4:  # as a small face, or a generator's soft one, looks
        if rng.random() < 0.5:
            picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.6))
        else:
            small = int(rng.integers(18, 48))
            picture = cv2.resize(cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA), (SIDE, SIDE))
    lit = _lit(np.asarray(picture, np.float32) / np.float32(255), rng)
    if rng.random() < 0.4:
        lit += rng.normal(0, rng.uniform(0.0, 0.025), lit.shape).astype(np.float32)
    seen = np.asarray(np.clip(lit, 0, 1) * 255, np.uint8)
    if rng.random() < 0.4:
        packed = cv2.imencode(".jpg", seen, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 95))])[1]
        seen = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return seen


def _framing(rng: Generator) -> NDArray[np.float64]:
    """Return float64 [2, 3], from pixels of the window to those of the region, of a box that is off."""
    zoom, angle = np.exp(rng.normal(0, 0.06)), rng.normal(0, 0.06)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag([mirror, 1.0]) / zoom
    middle, shift = np.full(2, (SIDE - 1) / 2), rng.normal(0, 1.8, 2)
    return np.column_stack([matrix, np.full(2, (REGION_PX - 1) / 2) + shift - matrix @ middle])


def _lit(picture: NDArray[np.float32], rng: Generator) -> NDArray[np.float32]:
    """Return float32 0..1 in other light: gamma, gain, offset, a tint, and a slope across the face."""
    tint = np.exp(rng.normal(0, 0.04, 3))
    slope = np.linspace(-1, 1, SIDE)[None, :, None] * rng.normal(0, 0.12)
    slope = slope + np.linspace(-1, 1, SIDE)[:, None, None] * rng.normal(0, 0.08)
    gain, offset = np.exp(rng.normal(0, 0.2)), rng.normal(0, 0.05)
    lit = picture ** np.exp(rng.normal(0, 0.2)) * (gain * tint * (1 + slope)) + offset
    return np.asarray(np.clip(lit, 0, 1), np.float32)


def batch(faces: Frames, chosen: Sequence[tuple[int, int]], rng: Generator) -> Frames:
    """Return uint8 RGB [N, 56, 56, 3] of (person, frame) pairs, each changed at random."""
    return np.stack([window(faces[person, frame], rng) for person, frame in chosen])
