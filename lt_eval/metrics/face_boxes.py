"""Where face boxes come from, and detections kept from one scoring to the next.

    manifest    the data set states them (Turn.faces)
    sidecar     CLIP.faces.json beside the clip
    s3fd        the detector of the published Sync numbers; needs its weights
    haar        OpenCV's cascade; needs nothing

Boxes in a file are fractions of the whole picture and belong to times, so that clips of other sizes, rates and content
crops share them. A stated box whose centre lies outside of the picture, or that reaches farther than a whole picture
beyond it, counts as no face: one slip must not cost a clip its value. Detections are kept in the cache folder, about
10 kB a clip.
"""

from __future__ import annotations

import contextlib
import math
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np

from lt_eval.errors import LtEvalError, UnscorableError, UsageError
from lt_eval.media.haar import frontal_faces
from lt_eval.paths import cache_dir, faces_sidecar
from lt_eval.store import atomic_write, key_of, read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from lt_eval.interfaces import Clip
    from lt_eval.metrics.faces import Boxes
    from lt_eval.metrics.shots import Shot
    from lt_eval.records import Box, Frames, MediaPolicy, Turn

Source = Literal["manifest", "sidecar", "s3fd", "haar"]

HAAR_SIDE_PX = 320
HAAR_SMALLEST = 0.1
HAAR_STEP = 3
"""The cascade looks at every third frame, and the frames beside it share its boxes: a head moves little in 40 ms."""

S3FD_SCALE, S3FD_SCORE = 0.25, 0.9
S3FD_CHUNK = 16
S3FD_SMALLEST_PX = 64
"""Below this side the network's maps shrink to nothing."""


class Pictures(Protocol):
    """Frames by number, in memory or not."""

    def __len__(self) -> int:
        """Number of frames."""
        ...

    def __getitem__(self, index: int, /) -> Frames:
        """Return uint8 RGB [H, W, 3]."""
        ...


class Detector(Protocol):
    """S3FD as far as it is used here."""

    def detect(self, frames: Frames, scale: float = ..., threshold: float = ...) -> list[NDArray[np.float32]]:
        """Return float32 [N, 5] of each frame: left, top, right, bottom in pixels, score."""
        ...


@dataclass(frozen=True)
class Footage:
    """A clip at 25 frames a second as faces are looked for in it.

    Attributes:
        pictures: its frames.
        instants: for each of them, the number of the 25 fps instant of the clip that it shows.
        shots: first frame and the one behind the last.
        audio: int16 [T], mono, 16 kHz; sample 0 at picture 0.
        key: of the pictures' making, for the cache; empty where detections cannot be kept.
    """

    pictures: Pictures
    instants: NDArray[np.int64]
    shots: Sequence[Shot]
    audio: NDArray[np.int16]
    key: str = ""


@dataclass(frozen=True)
class Placing:
    """How fractions of a file's whole picture lie in its canonical frames.

    Attributes:
        width: of the whole picture, pixels.
        height: of the whole picture, pixels.
        policy: gives size and fit, and whether frame 0 is left out.
        content: the part of the picture that is kept.
        frame_s: how long a frame of the file lasts.
    """

    width: int
    height: int
    policy: MediaPolicy
    content: Box | None
    frame_s: float

    def placed(self, boxes: Boxes) -> Boxes:
        """Return fractions of the canonical frame for fractions [N, 4] of the whole picture.

        The steps are those of `media.picture`; what lies outside of the frame gives fractions beyond 0..1.
        """
        size = np.array([self.width, self.height], np.float64)
        points = boxes.reshape(-1, 2) * size
        if self.content is not None:
            corner = np.rint([self.content.left * size[0], self.content.top * size[1]])
            size = np.rint([self.content.right * size[0], self.content.bottom * size[1]]) - corner
            points = points - corner
        if self.policy.size is not None and self.policy.fit != "squash":
            edge = size.min() if self.policy.fit == "crop" else size.max()
            points = points + (edge - size) / 2
            size = np.array([edge, edge])
        return np.asarray(points / size, np.float64).reshape(-1, 4)

    @property
    def skipped_s(self) -> float:
        """Time of the file at which the canonical clip begins."""
        return self.frame_s if self.policy.skip_first_frame else 0.0


def available(clip: Clip, turn: Turn, wanted: Sequence[Source]) -> Source:
    """Return the first source of boxes that there is.

    Raises:
        UnscorableError: none of them.
    """
    files = {"manifest": turn.faces, "sidecar": faces_sidecar(clip.path)}
    for source in wanted:
        if source not in files or ((file := files[source]) is not None and file.is_file()):
            return source
    raise UnscorableError(
        "no_face_boxes",
        f"{clip.path}: no face boxes are stated ({' or '.join(wanted)}); use faces='auto' to detect them.",
    )


def boxes_of(
    footage: Footage,
    clip: Clip,
    turn: Turn,
    source: Source,
    placing: Placing | None,
    detector: Callable[[], Detector],
    key: str,
) -> list[Boxes]:
    """Return the face boxes of every picture, float64 [N, 4] each: left, top, right, bottom in pixels.

    Args:
        footage: where to look.
        clip: what it was made from.
        turn: names the boxes of the data set.
        source: where boxes come from.
        placing: how the file's picture lies in the frames; None where they are the same.
        detector: makes S3FD, where it is the source and nothing is kept.
        key: of the detector's weights and code.

    Raises:
        UnscorableError: a file of boxes holds something else.
    """
    if source in ("manifest", "sidecar"):
        file = turn.faces if source == "manifest" else faces_sidecar(clip.path)
        return _stated(cast("Path", file), footage, placing)

    def find() -> list[Boxes]:
        return _haar(footage.pictures) if source == "haar" else s3fd_boxes(footage.pictures, detector)

    return _kept(key_of("faces-1", source, key, footage.key), find) if footage.key else find()


# Boxes that a file states ---------------------------------------------------------------------------------------------


def _stated(file: Path, footage: Footage, placing: Placing | None) -> list[Boxes]:
    fps, stated = read_faces(file)
    height, width = footage.pictures[0].shape[:2]
    pixels = np.array([width, height, width, height], np.float64)
    offset_s = placing.skipped_s if placing is not None else 0.0
    found, count = [], 0
    for instant in footage.instants:
        number = math.floor(((instant + 0.5) / 25 + offset_s) * fps)
        boxes = stated[number] if number < len(stated) else np.zeros((0, 4))
        boxes = boxes if placing is None else placing.placed(boxes)
        count += len(boxes)
        found.append(boxes[_in_picture(boxes)] * pixels)
    if count and not any(map(len, found)):
        raise UnscorableError(
            "face_outside", f"{file}: all {count} stated face boxes lie outside of the picture, which is 0 to 1."
        )
    return found


def _in_picture(boxes: Boxes) -> NDArray[np.bool_]:
    """Return which boxes have their centre in it; those from far outside would need a crop of many pictures' size."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.asarray(((centres >= 0) & (centres <= 1)).all(axis=1) & ~_far_outside(boxes))


def _far_outside(boxes: Boxes) -> NDArray[np.bool_]:
    return np.asarray((np.abs(boxes - 0.5) > 1.5).any(axis=1))


def read_faces(file: Path) -> tuple[float, list[Boxes]]:
    """Return frames a second and the boxes of each frame, float64 [N, 4] in fractions, of a file of face boxes.

    Raises:
        UnscorableError: it is not laid out as docs/metrics.md says.
    """
    try:
        data = read_json(file)
        fps = float(data["fps"])
        frames = [_frame_of_file(entry) for entry in data["faces"]]
    except (UsageError, KeyError, TypeError, ValueError) as cause:
        raise _unreadable(file, f"{type(cause).__name__}: {cause}") from cause
    if not (math.isfinite(fps) and fps > 0):
        raise _unreadable(file, f"fps is {fps}")
    every = np.concatenate([np.zeros((0, 4)), *frames])
    if 2 * np.count_nonzero(far := _far_outside(every)) > len(every):
        shown = every[far][0].tolist()
        raise _unreadable(file, f"{shown} lies far outside of the picture, which is 0 to 1: are these pixels?")
    return fps, frames


def _frame_of_file(entry: Any) -> Boxes:
    """Read null, one box, or a list of boxes."""
    if entry is None or entry == []:
        return np.zeros((0, 4))
    boxes = np.asarray(entry, np.float64)
    boxes = boxes[None] if boxes.ndim == 1 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all() or (boxes[:, :2] >= boxes[:, 2:]).any():
        raise ValueError(f"{entry} is not [left, top, right, bottom], nor null, nor a list of such boxes")
    return boxes


def _unreadable(file: Path, finding: str) -> UnscorableError:
    return UnscorableError(
        "bad_face_boxes",
        f"{file} is no file of face boxes ({finding}). It holds a JSON object with fps and faces, one entry a frame: "
        "null, [left, top, right, bottom] in fractions of the picture, or a list of such boxes. Mend it or remove it.",
    )


# Detectors ------------------------------------------------------------------------------------------------------------


def haar_boxes(frame: Frames) -> Boxes:
    """Return the cascade's boxes of one frame, uint8 [H, W, 3]: float64 [N, 4], left, top, right, bottom in pixels."""
    height, width = frame.shape[:2]
    squares = frontal_faces(frame, HAAR_SIDE_PX, HAAR_SMALLEST) * [width, height, width, height]
    return np.asarray(np.concatenate([squares[:, :2], squares[:, :2] + squares[:, 2:]], axis=1), np.float64)


def _haar(pictures: Pictures) -> list[Boxes]:
    """Return the cascade's boxes, each frame those of the nearest frame looked at.

    They are taken as they are: like the boxes that S3FD was trained on (WIDER FACE) they reach from the hairline to the
    chin, and only the longer side counts. On eight clips and three portraits of various people the chin lay between
    0.10 of the side above and 0.07 below the lower edge, in the middle on it.
    """
    found: list[Boxes] = []
    looked_at = [min(start + HAAR_STEP // 2, len(pictures) - 1) for start in range(0, len(pictures), HAAR_STEP)]
    for frame, is_new in _in_turn(pictures, looked_at):
        if is_new:
            boxes = haar_boxes(frame)
        found += [boxes] * min(HAAR_STEP, len(pictures) - len(found))
    return found


def s3fd_boxes(pictures: Pictures, make: Callable[[], Detector]) -> list[Boxes]:
    """Return S3FD's boxes of each picture as `boxes_of` gives them; a picture too small for it has none."""
    if min(pictures[0].shape[:2]) < S3FD_SMALLEST_PX:
        return [np.zeros((0, 4))] * len(pictures)
    detector = make()
    found: list[Boxes] = []
    for start in range(0, len(pictures), S3FD_CHUNK):
        frames = np.stack([pictures[k] for k in range(start, min(start + S3FD_CHUNK, len(pictures)))])
        found += [boxes.astype(np.float64)[:, :4] for boxes in detector.detect(frames, S3FD_SCALE, S3FD_SCORE)]
    return found


def _in_turn(pictures: Pictures, numbers: Sequence[int]) -> Iterator[tuple[Frames, bool]]:
    """Yield pictures, and whether each differs from the one before."""
    before: Frames | None = None
    for number in numbers:
        frame = pictures[number]
        yield frame, before is None or not np.array_equal(frame, before)
        before = frame


# Kept detections ------------------------------------------------------------------------------------------------------


def _kept(key: str, find: Callable[[], list[Boxes]]) -> list[Boxes]:
    """Return what lies in the cache under this key, else find it and put it there; do without a cache that fails."""
    file = cache_dir() / "faces" / f"{key}.npz"
    unreadable = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
    with contextlib.suppress(*unreadable), file.open("rb") as raw, np.load(raw, allow_pickle=False) as data:
        counts, boxes = data["counts"], data["boxes"]
        if counts.sum() == len(boxes) and boxes.ndim == 2:
            return [np.asarray(part, np.float64) for part in np.split(boxes, np.cumsum(counts)[:-1])]
    found = find()
    with contextlib.suppress(LtEvalError), atomic_write(file, "wb") as out:
        np.savez(out, counts=[len(boxes) for boxes in found], boxes=np.concatenate(found))
    return found
