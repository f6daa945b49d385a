"""Where a clip cuts from one shot to another, by the rule of PySceneDetect's ContentDetector.

    score of a frame = mean over its pixels of |hue| + |saturation| + |value| differences to the frame before, over 3
    a cut is where the score reaches 27, and 15 frames have passed since the last frame that did

Written after scenedetect 0.6.7.1 (BSD-3-Clause) with its defaults, which joonson/syncnet_python 6efbb1c uses: frames
are shrunk until the longer side is 256, and cuts that follow each other too soon merge into one.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from lt_eval.records import Frames

THRESHOLD = 27.0
SHORTEST_SHOT = 15
WORKING_SIDE_PX = 256

Shot = tuple[int, int]
"""First frame, and the one behind the last."""


def shots_of(frames: Iterable[Frames], threshold: float = THRESHOLD, shortest: int = SHORTEST_SHOT) -> list[Shot]:
    """Return the shots of a clip in order; they cover it without a gap.

    Args:
        frames: uint8 RGB [H, W, 3] each, all of one size; at least one.
        threshold: the least score of a cut.
        shortest: frames between two cuts.
    """
    above = [score >= threshold for score in content_scores(frames)]
    edges = [0, *cuts_of(above, shortest), len(above)]
    return list(itertools.pairwise(edges))


def content_scores(frames: Iterable[Frames]) -> Iterator[float]:
    """Yield the score of each frame against the one before; 0 for the first."""
    before: NDArray[np.uint8] | None = None
    for frame in frames:
        now = _hue_saturation_value(frame)
        if before is None:
            yield 0.0
        else:
            pixels = float(now.shape[0] * now.shape[1])
            sums = cv2.sumElems(cv2.absdiff(now, before))[:3]
            yield sum(total / pixels for total in sums) / 3.0
        before = now


def _hue_saturation_value(frame: Frames) -> NDArray[np.uint8]:
    height, width = frame.shape[:2]
    factor = max(height, width) / float(WORKING_SIDE_PX)
    if factor > 1:
        size = max(1, round(width / factor)), max(1, round(height / factor))
        frame = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2HSV), np.uint8)


def cuts_of(above: Iterable[bool], shortest: int = SHORTEST_SHOT) -> list[int]:
    """Return the frames that begin a new shot, from whether each frame's score reaches the threshold.

    A frame that does, `shortest` frames or more behind the last one that did (or the clip's beginning), is a cut. One
    that comes sooner is none before the first cut; later it opens a run of changes, which ends in a single cut at the
    last of them, `shortest` frames after that one, provided that the run itself was as long.
    """
    cuts: list[int] = []
    last, run_since = 0, -1
    for number, is_above in enumerate(above):
        rested = number - last >= shortest
        if is_above:
            last = number
        if run_since >= 0:
            if rested and not is_above and last - run_since >= shortest:
                run_since = -1
                cuts.append(last)
        elif is_above and rested:
            cuts.append(number)
        elif is_above and cuts:
            run_since = number
    return cuts
