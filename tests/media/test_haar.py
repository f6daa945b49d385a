from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from lt_eval.media.haar import frontal_faces
from lt_eval.records import Frames


@pytest.fixture
def portrait(real_media: Path) -> Frames:
    picture = cv2.imread(str(real_media / "portrait" / "portrait1.jpg"), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return np.asarray(picture, np.uint8)


def test_nothing_is_found_where_there_is_nothing() -> None:
    assert frontal_faces(np.full((96, 128, 3), 90, np.uint8)).shape == (0, 4)


def test_a_portrait_holds_one_square_face(portrait: Frames) -> None:
    height, width = portrait.shape[:2]
    left, top, across, down = frontal_faces(portrait)[0]
    assert across * width == pytest.approx(down * height, rel=0.02)
    assert 0 <= left < left + across <= 1 and 0 <= top < top + down <= 1


def test_a_face_moves_with_the_picture(portrait: Frames) -> None:
    side = min(portrait.shape[:2]) // 4 * 4
    square = portrait[:side, :side]
    wide = np.zeros((side, 2 * side, 3), np.uint8)
    wide[:, side:] = square
    alone, shifted = frontal_faces(square, 320)[0], frontal_faces(wide, 640)[0]
    assert shifted[0] == pytest.approx(0.5 + alone[0] / 2, abs=0.02)
    assert shifted[1:] == pytest.approx([alone[1], alone[2] / 2, alone[3]], abs=0.03)
