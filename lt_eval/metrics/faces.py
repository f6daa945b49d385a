"""From face boxes to face clips: tracks, their smoothing, and the square that SyncNet looks at.

    boxes of each frame -> greedy tracks within a shot -> gaps filled in between -> median filter -> 224 x 224 crops

Steps, thresholds and quirks are those of run_pipeline.py in joonson/syncnet_python 6efbb1c (MIT).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from lt_eval.errors import UnscorableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lt_eval.metrics.shots import Shot
    from lt_eval.records import Frames

    Boxes = NDArray[np.float64]

SAME_FACE_IOU = 0.5
"""Boxes that overlap more than this, one after the other, are one face."""

LONGEST_GAP = 25
"""Frames from one box of a track to the next."""

SMOOTHING = 13
"""Frames of the median filter over centre and size."""

CROP_SCALE = 0.4
"""What is added to half the box on every side but the top, as a share of half the box."""

CROP_SIDE = 224
PADDING_GREY = 110


@dataclass(frozen=True)
class FaceTrack:
    """One face through one shot.

    Attributes:
        first: its first frame.
        boxes: float64 [frames, 4], left, top, right, bottom in pixels, one a frame without a gap.
        seen: frames in which it was detected; in the others the box lies on the line between its neighbours.
        shot: number of the shot it is in.
    """

    first: int
    boxes: Boxes
    seen: int
    shot: int = 0

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def end(self) -> int:
        """The frame behind its last."""
        return self.first + len(self.boxes)

    @property
    def size_px(self) -> float:
        """The larger of mean width and mean height."""
        return float((self.boxes[:, 2:] - self.boxes[:, :2]).mean(axis=0).max())


def tracks_in(shots: Sequence[Shot], detections: Sequence[Boxes]) -> list[FaceTrack]:
    """Return every track of every shot, however short or small, in the order they are found.

    Args:
        shots: first frame and the one behind the last.
        detections: float [N, >= 4] of each frame, left, top, right, bottom in pixels; order matters.
    """
    return [
        track for number, (start, end) in enumerate(shots) for track in _tracks_of(detections[start:end], start, number)
    ]


def _tracks_of(detections: Sequence[Boxes], start: int, shot: int) -> list[FaceTrack]:
    """Take one track after the other out of the boxes of a shot.

    A box joins where it overlaps the last one, at most LONGEST_GAP frames before, enough. The loop is upstream's to the
    letter: the box behind one that has been taken is not looked at in that frame, and two overlapping boxes of one
    frame may both join.
    """
    left = [[tuple(float(edge) for edge in box[:4]) for box in boxes] for boxes in detections]
    tracks: list[FaceTrack] = []
    while True:
        numbers: list[int] = []
        track: list[tuple[float, ...]] = []
        for number, boxes in enumerate(left, start):
            at = 0
            while at < len(boxes):
                if track and number - numbers[-1] > LONGEST_GAP:
                    break
                if not track or overlap(boxes[at], track[-1]) > SAME_FACE_IOU:
                    numbers.append(number)
                    track.append(boxes.pop(at))
                at += 1
        if not track:
            return tracks
        every = np.arange(numbers[0], numbers[-1] + 1)
        filled = [np.interp(every, numbers, edge) for edge in np.asarray(track).T]
        tracks.append(FaceTrack(numbers[0], np.stack(filled, axis=1), len(track), shot))


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the intersection of two boxes over their union; 0 where both are empty."""
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    common = width * height
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    union = float(areas[0] + areas[1] - common)
    return common / union if union else 0.0


def smoothed(track: FaceTrack) -> NDArray[np.float64]:
    """Return float64 [frames, 3]: centre x, centre y and half the longer side, each median-filtered over 13 frames.

    Beyond both ends the filter sees zeros, so that the first and the last six values are too small rather than steady.
    """
    left, top, right, bottom = track.boxes.T
    raw = np.stack([(left + right) / 2, (top + bottom) / 2, np.maximum(bottom - top, right - left) / 2], axis=1)
    padded = np.pad(raw, ((SMOOTHING // 2, SMOOTHING // 2), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, SMOOTHING, axis=0)
    return np.asarray(np.sort(windows, axis=-1)[..., SMOOTHING // 2], np.float64)


def crop_face(frame: Frames, centre_x: float, centre_y: float, half: float) -> Frames:
    """Return the face with chin and cheeks, uint8 [224, 224, 3].

    What lies outside of the frame is grey. Edges are cut to whole pixels as upstream does, on the padded frame.

    Args:
        frame: uint8 [H, W, 3].
        centre_x: of the box, pixels.
        centre_y: of the box, pixels.
        half: half the longer side of the box, pixels.

    Raises:
        UnscorableError: nothing is left of the square: the box lies far outside of the frame, or is empty.
    """
    height, width = frame.shape[:2]
    pad = int(half * (1 + 2 * CROP_SCALE))
    y, x = centre_y + pad, centre_x + pad
    rows = int(y - half), min(int(y + half * (1 + 2 * CROP_SCALE)), height + 2 * pad)
    columns = int(x - half * (1 + CROP_SCALE)), min(int(x + half * (1 + CROP_SCALE)), width + 2 * pad)
    if rows[0] < 0 or columns[0] < 0 or rows[1] <= rows[0] or columns[1] <= columns[0]:
        raise UnscorableError(
            "face_outside",
            f"a face box of half side {half:.1f} at ({centre_x:.1f}, {centre_y:.1f}) lies outside of {width}x{height}.",
        )
    top, bottom, left, right = rows[0] - pad, rows[1] - pad, columns[0] - pad, columns[1] - pad
    inside = frame[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if inside.shape[:2] != (bottom - top, right - left):
        whole = np.full((bottom - top, right - left, 3), PADDING_GREY, np.uint8)
        if inside.size:
            at_y, at_x = max(-top, 0), max(-left, 0)
            whole[at_y : at_y + inside.shape[0], at_x : at_x + inside.shape[1]] = inside
        inside = whole
    return np.asarray(cv2.resize(np.ascontiguousarray(inside), (CROP_SIDE, CROP_SIDE)), np.uint8)
