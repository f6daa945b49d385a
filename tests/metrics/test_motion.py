"""Motion: zero where nothing moves, exact where it can be counted, and the same at any size."""

from __future__ import annotations

import numpy as np
import pytest

from lt_eval.errors import SpecError, UnscorableError
from lt_eval.metrics.motion import Motion
from lt_eval.records import Dialogue, Frames, Sample, Turn
from lt_eval.registry import create
from lt_eval.synthetic.talker import make_clip
from lt_eval.testing import ArrayClip, check_clip_metric


def motion(frames: Frames, region: str = "frame") -> float:
    sample = Sample("m", Dialogue("d", (Turn(),)), 0, ArrayClip(frames))
    return float(create("metrics", "motion", {"region": region}).score(sample)["Motion"])


def grey(levels: list[int], size: int = 64) -> Frames:
    return np.stack([np.full((size, size, 3), level, np.uint8) for level in levels])


def test_the_contract() -> None:
    check_clip_metric(Motion)


def test_a_frozen_picture_has_none_and_a_change_is_counted_in_levels() -> None:
    assert motion(grey([90, 90, 90])) == 0.0
    assert motion(grey([10, 14, 10, 14])) == pytest.approx(4.0)
    assert motion(grey([0, 30, 30])) == pytest.approx(15.0)


@pytest.mark.parametrize("size", [64, 128, 256])
def test_size_does_not_matter(size: int) -> None:
    frames = grey([100] * 6, size)
    for number, frame in enumerate(frames):  # a bright quarter that jumps from side to side
        frame[: size // 2, (number % 2) * size // 2 :][:, : size // 2] = 200
    assert motion(frames) == pytest.approx(50.0, abs=0.5)


def test_time_reversed_it_is_the_same_and_twice_as_fast_it_is_more() -> None:
    frames = make_clip(3, seconds=1.2, size=96).frames
    assert motion(frames[::-1]) == pytest.approx(motion(frames))
    assert motion(frames[::2]) > 1.2 * motion(frames)


def test_a_face_moves_more_than_the_wall_behind_it() -> None:
    frames = make_clip(3, seconds=1.2, size=160).frames
    assert motion(frames, "face") > motion(frames) > 0


def test_what_has_no_motion_has_a_reason() -> None:
    with pytest.raises(UnscorableError, match="two frames"):
        motion(grey([1]))
    with pytest.raises(UnscorableError) as caught:
        motion(grey([1, 2, 3], 128), "face")
    assert caught.value.code == "no_face"
    with pytest.raises(SpecError, match="region"):
        motion(grey([1, 2]), "nose")
