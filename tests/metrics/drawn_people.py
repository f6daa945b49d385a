"""Procedural people for tests of faces: clips, portraits and stated boxes on the disk. Nobody trains on these seeds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from lt_eval.records import Dialogue, Frames, Sample, Turn
from lt_eval.store import write_json
from lt_eval.synthetic.face import Face
from lt_eval.synthetic.phonemes import Mouth
from lt_eval.synthetic.talker import perform
from lt_eval.testing.fakes import ArrayClip

FIRST_SEED = 9_700_100
FPS = 25.0


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Frames uint8 [T, H, W, 3] of one person, and their boxes as fractions [T, 4]."""

    frames: Frames
    boxes: list[list[float]]

    def dialogue(self, folder: Path, name: str) -> Dialogue:
        """Write portrait and boxes, and return the item that a data set would have of them."""
        write_portrait(folder / f"{name}.png", self.frames[0], self.boxes[0])
        faces = folder / f"{name}-stated.json"
        write_json(faces, {"fps": FPS, "faces": self.boxes})
        return Dialogue(name, (Turn(faces=faces),), folder / f"{name}.png")


def drawn(number: int, count: int = 12, size: int = 192, every: int = 8, light: float | None = None) -> Drawn:
    """Return a person at `count` moments, perhaps in other light."""
    show = perform(FIRST_SEED + number, count * every / FPS, size, FPS)
    identity = show.spec.identity if light is None else dataclasses.replace(show.spec.identity, light=light)
    face = Face(identity, size)
    frames, boxes = [], []
    for index in range(0, len(show), every):
        mouth = Mouth(*show.mouth[index])
        frames.append(face.draw(mouth, show.poses[index], show.looks[index]))
        boxes.append([float(edge) for edge in face.box(mouth, show.poses[index])])
    return Drawn(np.stack(frames), boxes)


def write_portrait(path: Path, picture: Frames, box: list[float] | None = None) -> None:
    """Write a picture, and the box of its face beside it where one is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture[:, :, ::-1])
    if box is not None:
        write_json(path.with_name(f"{path.stem}.faces.json"), {"fps": FPS, "faces": [box]})


def sample(dialogue: Dialogue, frames: Frames) -> Sample:
    """Return what a metric scores: these frames as the answer to an item."""
    return Sample("method", dialogue, 0, ArrayClip(frames, fps=FPS))
