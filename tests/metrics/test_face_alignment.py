"""Faces cut for recognition networks: where the template has them, whatever their size, and black beyond the frame."""

from __future__ import annotations

import numpy as np
import pytest

from lt_eval.errors import UnscorableError
from lt_eval.metrics.face_alignment import SIDE_PX, aligned_face, square_of

EYE_LINE, EYE_GAP = 0.4607, 0.3146
"""Of ArcFace's template of 112 pixels: mean height of the eyes and their distance, in sides."""


@pytest.mark.parametrize("side", [60, 112, 300])
def test_mean_eyes_lie_where_the_template_has_them(side: int) -> None:
    frame = np.zeros((2 * side, 2 * side, 3), np.uint8)
    left, top = side // 2, side // 2
    dot = max(1, side // 30)
    for across in (0.5 - 0.361 / 2, 0.5 + 0.361 / 2):  # the mean of real faces in the cascade's boxes
        x, y = round(left + across * side), round(top + 0.399 * side)
        frame[y - dot : y + dot, x - dot : x + dot] = 255
    face = aligned_face(frame, (left, top, left + side, top + side))
    assert face.shape == (SIDE_PX, SIDE_PX, 3)
    luma = face[..., 0].astype(float)
    rows, columns = np.nonzero(luma > 0.3 * luma.max())
    halves = [columns[columns < 56].mean(), columns[columns >= 56].mean()]
    assert (rows.mean() + 0.5) / SIDE_PX == pytest.approx(EYE_LINE, abs=0.02)
    assert (halves[1] - halves[0]) / SIDE_PX == pytest.approx(EYE_GAP, abs=0.02)
    assert np.mean(halves) == pytest.approx(55.5, abs=1.5)


def test_only_the_longer_side_of_a_box_counts() -> None:
    assert square_of((40, 20, 80, 80)) == square_of((30, 20, 90, 80))
    assert square_of((30, 20, 90, 80))[2] == round(1.15 * 60)


def test_what_lies_outside_of_the_frame_is_black() -> None:
    face = aligned_face(np.full((100, 100, 3), 200, np.uint8), (-30, 10, 50, 90))
    assert (face[:, :30] == 0).all() and (face[56, 60:] == 200).all()


@pytest.mark.parametrize("box", [(200, 200, 260, 260), (-500, -500, -400, -400), (-900, -900, 900, 900)])
def test_a_box_that_shows_no_face_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(UnscorableError) as caught:
        aligned_face(np.zeros((100, 100, 3), np.uint8), box)
    assert caught.value.code == "face_outside"
