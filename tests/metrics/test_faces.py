from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.interpolate import interp1d
from scipy.signal import medfilt

from lt_eval.errors import UnscorableError
from lt_eval.metrics.faces import FaceTrack, crop_face, overlap, smoothed, tracks_in

Boxes = NDArray[np.float64]

LEFT, RIGHT, NOWHERE = [10.0, 10.0, 60.0, 70.0], [200.0, 10.0, 260.0, 80.0], np.zeros((0, 4))


def boxes(*rows: list[float]) -> Boxes:
    return np.asarray(rows, np.float64).reshape(-1, 4)


def test_overlap_is_intersection_over_union() -> None:
    assert overlap([0, 0, 2, 2], [1, 0, 3, 2]) == pytest.approx(1 / 3)
    assert overlap(LEFT, LEFT) == 1
    assert overlap(LEFT, RIGHT) == overlap([0, 0, 0, 0], [0, 0, 0, 0]) == 0


def test_two_faces_are_two_tracks_in_whatever_order_they_come() -> None:
    flip = np.random.default_rng(0).random(50) < 0.4
    detections = [boxes(RIGHT, LEFT) if turned else boxes(LEFT, RIGHT) for turned in flip]
    first, second = tracks_in([(0, 50)], detections)
    assert len(first) == len(second) == first.seen == second.seen == 50
    assert {tuple(first.boxes[0]), tuple(second.boxes[0])} == {tuple(LEFT), tuple(RIGHT)}


def test_a_cut_ends_every_track() -> None:
    tracks = tracks_in([(0, 12), (12, 30)], [boxes(LEFT)] * 30)
    assert [(track.first, track.end, track.shot) for track in tracks] == [(0, 12, 0), (12, 30, 1)]


def test_a_gap_of_25_frames_is_bridged_and_a_longer_one_is_not() -> None:
    for missing, spans in ((24, [(0, 26)]), (25, [(0, 1), (26, 27)])):
        detections = [boxes(LEFT), *[NOWHERE] * missing, boxes(LEFT)]
        assert [(t.first, t.end) for t in tracks_in([(0, len(detections))], detections)] == spans


def test_a_box_too_far_off_ends_no_track() -> None:
    detections = [boxes(LEFT), boxes(RIGHT), boxes(LEFT)]
    assert [(t.first, t.end, t.seen) for t in tracks_in([(0, 3)], detections)] == [(0, 3, 2), (1, 2, 1)]


def test_the_box_behind_one_that_is_taken_is_not_looked_at_in_that_frame() -> None:
    near = [12.0, 10.0, 62.0, 70.0]
    assert [t.seen for t in tracks_in([(0, 1)], [boxes(LEFT, near)])] == [1, 1]
    assert [t.seen for t in tracks_in([(0, 1)], [boxes(LEFT, RIGHT, near)])] == [2, 1]


def test_gaps_are_filled_on_a_line() -> None:
    numbers, rng = [0, 3, 4, 9], np.random.default_rng(1)
    seen = {number: np.asarray(LEFT) + rng.normal(0, 2, 4) for number in numbers}
    (track,) = tracks_in([(0, 10)], [boxes(list(seen[k])) if k in seen else NOWHERE for k in range(10)])
    expected = interp1d(numbers, np.stack([seen[k] for k in numbers]), axis=0)(np.arange(10))
    assert track.seen == 4
    np.testing.assert_allclose(track.boxes, expected, atol=1e-12)


@settings(max_examples=50)
@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=3), min_size=1, max_size=60))
def test_every_box_is_in_one_track(frames: list[list[tuple[int, int]]]) -> None:
    detections = [boxes(*[[100.0 * x, 2.0 * y, 100.0 * x + 40, 2.0 * y + 40] for x, y in faces]) for faces in frames]
    tracks = tracks_in([(0, len(frames))], detections)
    assert sum(track.seen for track in tracks) == sum(map(len, frames))
    assert all(len(track.boxes) == track.end - track.first for track in tracks)


def track_of(count: int, seed: int = 0) -> FaceTrack:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(20, 60, (count, 2))
    return FaceTrack(0, np.concatenate([corner, corner + rng.uniform(60, 130, (count, 2))], axis=1), count)


@pytest.mark.parametrize("count", [1, 5, 13, 60])
def test_smoothing_is_the_median_of_13_with_zeros_beyond_the_ends(count: int) -> None:
    track = track_of(count)
    left, top, right, bottom = track.boxes.T
    wanted = [(left + right) / 2, (top + bottom) / 2, np.maximum(bottom - top, right - left) / 2]
    padded = [np.pad(values, 13) for values in wanted]  # scipy warns of less than a window
    expected = np.stack([medfilt(values, 13)[13:-13] for values in padded], axis=1)
    np.testing.assert_array_equal(smoothed(track), expected)


@settings(max_examples=30)
@given(st.floats(0, 90), st.floats(0, 70), st.floats(3, 80), st.integers(0, 3))
def test_a_crop_is_that_of_the_padded_frame(x: float, y: float, half: float, seed: int) -> None:
    frame = np.random.default_rng(seed).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    pad = int(half * 1.8)
    padded = np.pad(frame, ((pad, pad), (pad, pad), (0, 0)), constant_values=110)
    rows = slice(int(y + pad - half), int(y + pad + half * 1.8))
    columns = slice(int(x + pad - half * 1.4), int(x + pad + half * 1.4))
    np.testing.assert_array_equal(crop_face(frame, x, y, half), cv2.resize(padded[rows, columns], (224, 224)))


def test_a_box_without_a_picture_is_refused() -> None:
    frame = np.zeros((70, 90, 3), np.uint8)
    for x, y, half in ((-400.0, 30.0, 20.0), (400.0, 30.0, 20.0), (40.0, 30.0, 0.0)):
        with pytest.raises(UnscorableError, match="lies outside of 90x70") as caught:
            crop_face(frame, x, y, half)
        assert caught.value.code == "face_outside"
