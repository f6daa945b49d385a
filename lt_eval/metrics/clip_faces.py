"""The face of a clip in some of its frames: what identity and appearance look at.

Boxes come from the first source there is (`face_boxes`); where a frame has several, its face is the largest. Frames are
looked at one by one, for they lie apart in time.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from lt_eval import weights as weight_files
from lt_eval.errors import UnscorableError
from lt_eval.media.clip import MediaClip
from lt_eval.media.decode import Decoding
from lt_eval.metrics.face_boxes import (
    Detector,
    Footage,
    Source,
    available,
    boxes_of,
    haar_boxes,
    read_faces,
    s3fd_boxes,
)
from lt_eval.metrics.sync_rate import FPS, placing_of
from lt_eval.paths import faces_sidecar
from lt_eval.records import MediaPolicy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lt_eval.interfaces import Clip
    from lt_eval.metrics.faces import Boxes
    from lt_eval.records import Frames, Turn

    Face = NDArray[np.float64]
    """float64 [4]: left, top, right, bottom in pixels."""

Faces = Literal["auto", "manifest", "sidecar", "s3fd", "haar"]

CHOICES: Mapping[Faces, tuple[Source, ...]] = {
    "auto": ("manifest", "sidecar", "s3fd"),
    "manifest": ("manifest",),
    "sidecar": ("sidecar",),
    "s3fd": ("s3fd",),
    "haar": ("haar",),
}

BOXES: Mapping[Source, str] = {
    "manifest": "stated by the data set",
    "sidecar": "stated beside the clip",
    "s3fd": "found by S3FD",
    "haar": "found by OpenCV's Haar cascade",
}

CODE = ("clip_faces.py", "face_boxes.py", "sync_rate.py", "nets/s3fd.py", "../media/haar.py")
"""What the faces depend on, relative to this folder."""


def sources_of(faces: Faces, *, builtin: bool) -> tuple[Source, ...]:
    """Return where boxes may come from, in turn: the detector of "auto" is S3FD, or Haar with builtin weights."""
    return ("manifest", "sidecar", "haar") if faces == "auto" and builtin else CHOICES[faces]


def spread(count: int, wanted: int) -> NDArray[np.int64]:
    """Return the numbers of at most `wanted` frames of `count`, evenly spaced with both ends; 0 is all."""
    number = count if wanted == 0 else min(count, wanted)
    return np.unique(np.linspace(0, count - 1, number).round().astype(np.int64))


def faces_in(
    clip: Clip, turn: Turn, numbers: NDArray[np.int64], sources: Sequence[Source], device: str
) -> tuple[Source, list[Face | None]]:
    """Return where the boxes came from, and the face of each of these frames, None where there is none.

    Raises:
        UnscorableError: no_face_boxes, bad_face_boxes, face_outside.
        MediaError: the clip cannot be decoded.
        WeightsError: S3FD is wanted and its weights are not here.
    """
    source = available(clip, turn, sources)
    pictures = clip.frames[numbers]
    if source in ("manifest", "sidecar"):
        # the instant of 25 a second that the middle of each frame falls into
        instants = np.floor((numbers + 0.5) * FPS / clip.fps).astype(np.int64)
        footage = Footage(pictures, instants, (), np.zeros(0, np.int16))
        boxes = boxes_of(footage, clip, turn, source, placing_of(clip, source), lambda: _s3fd(device), "")
    else:
        boxes = _detected(pictures, source, device)
    return source, [largest(found) for found in boxes]


def face_of_picture(picture: Frames, path: Path, sources: Sequence[Source], device: str) -> Face:
    """Return the face of a single picture: a box stated in PATH.faces.json beside it, else a detector's.

    Args:
        picture: uint8 RGB [H, W, 3].
        path: its file.
        sources: "manifest" and "sidecar" both mean a box stated beside the picture.
        device: of a detector.

    Raises:
        UnscorableError: no_face, no_face_boxes, bad_face_boxes.
    """
    height, width = picture.shape[:2]
    for source in sources:
        if source in ("s3fd", "haar"):
            face = largest(_detected(picture[None], source, device)[0])
            if face is None:
                raise UnscorableError("no_face", f"{path}: no face is seen in the portrait; boxes {BOXES[source]}.")
            return face
        if source in ("manifest", "sidecar") and (file := faces_sidecar(path)).is_file():
            stated = read_faces(file)[1]
            face = largest(stated[0] * [width, height, width, height]) if stated else None
            if face is None:
                raise UnscorableError("no_face", f"{file} states no face of the portrait.")
            return face
    raise UnscorableError(
        "no_face_boxes",
        f"{path}: no box is stated for the portrait in {faces_sidecar(path).name}; use faces='auto' to detect one.",
    )


def largest(boxes: Boxes) -> Face | None:
    """Return the largest of boxes [N, 4], None of none."""
    if not len(boxes):
        return None
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.asarray(boxes[int(np.argmax(area))], np.float64)


def first_face(
    clip: Clip, path: Path, turn: Turn, sources: Sequence[Source], device: str
) -> tuple[Frames, Face | None]:
    """Return frame 0 of another file, read as a clip is, and its face.

    Args:
        clip: how to read, where it is a file itself; else as it lies.
        path: the other file.
        turn: names the boxes of the data set.
        sources: of boxes.
        device: of a detector.

    Raises:
        UnscorableError: as `faces_in`.
        MediaError: the file cannot be decoded.
    """
    policy, content = (clip.policy, clip.content) if isinstance(clip, MediaClip) else (MediaPolicy(fps=None), None)
    other = _FirstFrame(path, policy, content)
    return other.frames[0], faces_in(other, turn, np.zeros(1, np.int64), sources, device)[1][0]


class _FirstFrame(MediaClip):
    """A clip of which only the beginning is decoded."""

    @property
    def fps(self) -> float:
        """The policy's, or 25: whatever it is, frame 0 is that of the time 0."""
        return self.policy.fps or FPS

    @functools.cached_property
    def frames(self) -> Frames:
        return next(iter(Decoding(self.path, self.policy, self.content)))[:1]


def _detected(pictures: Frames, source: Source, device: str) -> list[Boxes]:
    if source == "haar":
        return [haar_boxes(picture) for picture in pictures]
    return s3fd_boxes(pictures, lambda: _s3fd(device))


def _s3fd(device: str) -> Detector:
    from lt_eval.metrics.nets.inference import resolve_device

    path = weight_files.require("s3fd")
    return _loaded(path, path.stat().st_mtime_ns, resolve_device(device))


@functools.cache
def _loaded(path: Path, modified_ns: int, device: str) -> Detector:
    from lt_eval.metrics.nets.s3fd import load_s3fd

    return load_s3fd(path, device)


def detector_key(sources: Sequence[Source]) -> str:
    """Return the digest of the detector's weights, empty where none has any."""
    return weight_files.digest_of(weight_files.require("s3fd")) if "s3fd" in sources else ""
