"""Puts a talking face together, frame by frame: a function of (identity, mouth, pose, look) alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from lt_eval.records import Box
from lt_eval.synthetic import portrait, relief, scene
from lt_eval.synthetic.features import JAW_DROP, Sprite, draw_eye, draw_mouth
from lt_eval.synthetic.motion import Look, Pose
from lt_eval.synthetic.phonemes import REST
from lt_eval.synthetic.relief import EYE_X, EYE_Y, MOUTH_Y

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lt_eval.records import Frames
    from lt_eval.synthetic.features import Place
    from lt_eval.synthetic.identity import Identity
    from lt_eval.synthetic.phonemes import Mouth
    from lt_eval.synthetic.portrait import Layer

    Points = NDArray[np.float64]

_TURN = 0.045
"""How far the tip of the nose moves at yaw or pitch 1, in head heights."""

_PIVOT_Y = 0.60
"""The head rolls about this point of the neck."""

_TEXTURE_ZOOM = 1.25
"""The head is painted larger than shown, or moving it would blur it."""

_FACE_LEFT, _FACE_TOP, _FACE_RIGHT, _FACE_BOTTOM = -0.36, -0.34, 0.36, 0.5
"""Face box at rest, in head coordinates: ear to ear, hairline to chin."""


def _packed(layer: Layer) -> NDArray[np.uint8]:
    """uint8 RGBA with colours multiplied by the coverage."""
    alpha = layer.alpha[..., None]
    return np.asarray(np.rint(np.concatenate([layer.colour * alpha, 255 * alpha], -1).clip(0, 255)), np.uint8)


def _lay_over(view: Frames, layer: NDArray[np.uint8]) -> None:
    """Lay premultiplied RGBA over a view of the frame, in place."""
    red, green, blue, alpha = cv2.split(layer)
    through = cv2.bitwise_not(alpha)
    below = cv2.multiply(view, cv2.merge([through, through, through]), scale=1 / 255)
    cv2.add(below, cv2.merge([red, green, blue]), dst=view)


def _sampled(layer: NDArray[np.uint8], map_x: NDArray[np.float32], map_y: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray(cv2.remap(layer, map_x, map_y, cv2.INTER_LINEAR), np.uint8)


class Face:
    """A person ready to be drawn at one size.

    Args:
        identity: who.
        size: side of the square frames in pixels, even.
    """

    def __init__(self, identity: Identity, size: int) -> None:
        self.identity, self.size = identity, size
        self._unit = identity.head_height * size
        self._origin = np.array([identity.head_x * size, identity.head_y * size])
        self._zoom = 2 if size >= 384 else 3 if size >= 192 else 4
        texture_unit = self._unit * _TEXTURE_ZOOM
        self._texture_unit = texture_unit
        self._head = _packed(portrait.head(identity, texture_unit))
        behind = portrait.hair_behind(identity, texture_unit)
        self._behind = None if behind is None else _packed(behind)
        self._room = np.rint(scene.room(identity, size)).astype(np.uint8)
        self._margin = max(4, round(0.06 * size))
        self._body_top = max(0, round(self._origin[1] + 0.2 * self._unit))
        self._body = _packed(scene.shoulders(identity, size, self._margin))[self._body_top :]

        reach = 0.10
        corners = np.array(
            [
                [portrait.HEAD_LEFT - reach, portrait.HEAD_TOP - reach],
                [portrait.HEAD_RIGHT + reach, portrait.HEAD_BOTTOM + reach],
            ]
        )
        (left, top), (right, bottom) = np.clip(corners * self._unit + self._origin, 0, size).astype(int)
        self._window = (slice(top, bottom), slice(left, right))
        x, y = np.meshgrid(
            (np.arange(left, right) + 0.5 - self._origin[0]) / self._unit,
            (np.arange(top, bottom) + 0.5 - self._origin[1]) / self._unit,
        )
        self._x, self._y = x.astype(np.float32), y.astype(np.float32)
        self._depth = (relief.depth(x, y) * _TURN * texture_unit).astype(np.float32)
        self._drop = (relief.jaw_drop(x, y) * JAW_DROP * texture_unit).astype(np.float32)

    def placing(self, pose: Pose) -> Place:
        """Return the map from head coordinates [N, 2] to pixels [N, 2] of the frame in a pose."""
        cosine, sine = np.cos(pose.roll), np.sin(pose.roll)
        rotation = pose.scale * np.array([[cosine, sine], [-sine, cosine]])
        pivot = np.array([0.0, _PIVOT_Y])
        matrix = rotation * self._unit
        offset = (pivot - pivot @ rotation + (pose.x, pose.y)) * self._unit + self._origin
        turn = _TURN * np.array([pose.yaw, pose.pitch])

        def place(points: Points) -> Points:
            turned = points + relief.depth(points[:, 0], points[:, 1])[:, None] * turn
            return np.asarray(turned @ matrix + offset)

        return place

    def box(self, mouth: Mouth, pose: Pose) -> Box:
        """Face box in fractions of the frame, ear to ear and hairline to chin."""
        chin = _FACE_BOTTOM + JAW_DROP * mouth.jaw * (1 - 0.5 * mouth.closure)
        half = _FACE_RIGHT * self.identity.width
        corners = np.array([[-half, 0.06], [half, 0.06], [0.0, _FACE_TOP], [0.0, chin]])
        placed = self.placing(pose)(corners) / self.size
        low, high = np.clip(placed.min(0), 0, 1), np.clip(placed.max(0), 0, 1)
        return Box(float(low[0]), float(low[1]), float(high[0]), float(high[1]))

    def draw(self, mouth: Mouth = REST, pose: Pose = Pose(), look: Look = Look()) -> Frames:  # noqa: B008
        """Draw one frame: uint8 RGB [size, size, 3]."""
        frame = self._room.copy()
        map_x, map_y = self._maps(pose)
        view = frame[self._window]
        if self._behind is not None:
            _lay_over(view, _sampled(self._behind, map_x, map_y))
        self._draw_body(frame, pose)
        jaw = mouth.jaw * (1 - 0.5 * mouth.closure)
        head_x = map_x - np.float32(pose.yaw) * self._depth
        head_y = map_y - np.float32(pose.pitch) * self._depth - np.float32(jaw) * self._drop
        _lay_over(view, _sampled(self._head, head_x, head_y))
        place = self.placing(pose)
        for side in (-1, 1):
            sprite = self._sprite(
                np.array([side * EYE_X * self.identity.eye_gap, EYE_Y - 0.045]), (0.125, 0.105), place
            )
            draw_eye(sprite, self.identity, side, look, self._unit)
            sprite.paste(frame)
        sprite = self._sprite(np.array([0.0, MOUTH_Y + 0.03]), (0.165, 0.115), place)
        draw_mouth(sprite, self.identity, mouth, look.smile, self._unit)
        sprite.paste(frame)
        if self.identity.glasses:
            self._draw_glasses(frame, place)
        return frame

    def _maps(self, pose: Pose) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Where in the painted head each pixel of the window comes from, before it turns."""
        cosine, sine = np.cos(pose.roll) / pose.scale, np.sin(pose.roll) / pose.scale
        x, y = self._x - np.float32(pose.x), self._y - np.float32(_PIVOT_Y + pose.y)
        unit = self._texture_unit
        map_x = x * np.float32(cosine * unit) + y * np.float32(sine * unit)
        map_y = y * np.float32(cosine * unit) - x * np.float32(sine * unit)
        map_x += np.float32(-portrait.HEAD_LEFT * unit - 0.5)
        map_y += np.float32((_PIVOT_Y - portrait.HEAD_TOP) * unit - 0.5)
        return map_x, map_y

    def _draw_body(self, frame: Frames, pose: Pose) -> None:
        shift_x = -self._margin + 0.35 * pose.x * self._unit
        shift_y = (0.2 * pose.y - 0.008 * pose.breath) * self._unit
        move = np.array([[1.0, 0.0, shift_x], [0.0, 1.0, shift_y]])
        view = frame[self._body_top :]
        body = cv2.warpAffine(self._body, move, (view.shape[1], view.shape[0]), flags=cv2.INTER_LINEAR)
        _lay_over(view, np.asarray(body, np.uint8))

    def _sprite(self, centre: Points, reach: tuple[float, float], place: Place) -> Sprite:
        middle = place(centre[None])[0]
        across, down = reach[0] * self._unit, reach[1] * self._unit
        left, top = int(np.floor(middle[0] - across)), int(np.floor(middle[1] - down))
        right, bottom = int(np.ceil(middle[0] + across)), int(np.ceil(middle[1] + down))
        return Sprite((left, top, right, bottom), self._zoom, place, self.identity.skin)

    def _draw_glasses(self, frame: Frames, place: Place) -> None:
        angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        ring = (
            np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** 0.6,
            np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** 0.6,
        )
        gap, width = EYE_X * self.identity.eye_gap, max(1, round(0.011 * self._unit))
        lines = []
        for side in (-1, 1):
            lines.append((np.stack([side * gap + 0.112 * ring[0], EYE_Y + 0.012 + 0.078 * ring[1]], 1), True))
            edge = 0.36 * self.identity.width
            lines.append((np.array([[side * (gap + 0.112), EYE_Y - 0.015], [side * edge, EYE_Y + 0.0]]), False))
        bridge = np.linspace(-1, 1, 9)
        lines.append((np.stack([(gap - 0.112) * bridge, EYE_Y - 0.008 - 0.014 * (1 - bridge**2)], 1), False))
        for contour, closed in lines:
            fixed = np.rint((place(contour) - 0.5) * 16).astype(np.int32)
            cv2.polylines(frame, [fixed], closed, (38, 34, 36), width, cv2.LINE_AA, 4)
