from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from lt_eval.synthetic.face import Face
from lt_eval.synthetic.features import aperture, lips
from lt_eval.synthetic.identity import Identity, make_identity
from lt_eval.synthetic.motion import Look, Pose
from lt_eval.synthetic.phonemes import PHONEMES, REST, Mouth
from lt_eval.synthetic.relief import EYE_X, EYE_Y, MOUTH_Y

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lt_eval.records import Frames


def _person(seed: int = 2) -> Identity:
    return dataclasses.replace(make_identity(np.random.default_rng(seed)), glasses=False, beard="none")


def _mouth_region(face: Face, frame: Frames, pose: Pose = Pose()) -> Frames:  # noqa: B008
    low, high = face.placing(pose)(np.array([[-0.11, MOUTH_Y - 0.03], [0.11, MOUTH_Y + 0.10]])).astype(int)
    return frame[low[1] : high[1], low[0] : high[0]]


def _darkest(region: NDArray[np.uint8]) -> float:
    return float(np.percentile(region.mean(axis=2), 2))


def test_frame_is_uint8_rgb_and_the_same_every_time() -> None:
    face = Face(_person(), 96)
    first, second = face.draw(), Face(_person(), 96).draw()
    assert first.shape == (96, 96, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, second)


def test_drawing_does_not_depend_on_what_was_drawn_before() -> None:
    face = Face(_person(), 96)
    first = face.draw()
    face.draw(PHONEMES["AA"].mouth, Pose(x=0.05, roll=0.1), Look(blink=1.0))
    assert np.array_equal(face.draw(), first)


def test_pixels_do_not_depend_on_the_number_of_threads() -> None:
    threads = cv2.getNumThreads()
    pictures = []
    try:
        for count in (1, 4):
            cv2.setNumThreads(count)
            face = Face(_person(), 256)
            pictures.append(face.draw(PHONEMES["EH"].mouth, Pose(yaw=0.4, roll=0.03)))
    finally:
        cv2.setNumThreads(threads)
    assert np.array_equal(pictures[0], pictures[1])


def test_open_mouth_shows_the_dark_behind_the_lips_and_a_closed_one_does_not() -> None:
    face = Face(_person(), 192)
    darkest = {name: _darkest(_mouth_region(face, face.draw(p.mouth))) for name, p in PHONEMES.items()}
    assert max(darkest["AA"], darkest["AE"]) < min(darkest[name] for name in "PBM") - 25


def test_teeth_are_seen_in_s_and_not_in_m() -> None:
    face = Face(dataclasses.replace(_person(), skin=(92, 60, 46)), 192)
    brightest = {n: np.percentile(_mouth_region(face, face.draw(PHONEMES[n].mouth)).min(2), 98) for n in "SMF"}
    assert min(brightest["S"], brightest["F"]) > brightest["M"] + 40


@pytest.mark.parametrize("name", list(PHONEMES))
def test_lip_contours_never_cross(name: str) -> None:
    contour = lips(_person(), PHONEMES[name].mouth)
    top, inner_top, inner_bottom, bottom = (curve[:, 1] for curve in contour)
    assert (top <= inner_top + 1e-9).all()
    assert (inner_top <= inner_bottom + 1e-9).all()
    assert (inner_bottom <= bottom + 1e-9).all()
    assert (np.diff(contour.outer_top[:, 0]) > 0).all()


def test_lips_meet_exactly_when_closure_is_one() -> None:
    for jaw in (0.0, 0.5, 1.0):
        assert aperture(Mouth(jaw, teeth=0.5, closure=1.0)) == (0.0, 0.0)
        assert sum(aperture(Mouth(jaw + 0.1, closure=0.9))) > 0


def test_rounding_narrows_and_spreading_widens_the_mouth() -> None:
    width = {n: float(np.ptp(lips(_person(), PHONEMES[n].mouth).outer_top[:, 0])) for n in ("UW", "AA", "IY")}
    assert 1.3 * width["UW"] < width["AA"] < width["IY"]


def test_blink_hides_the_iris() -> None:
    face = Face(dataclasses.replace(_person(), iris=(40, 200, 40)), 192)
    low, high = face.placing(Pose())(np.array([[EYE_X - 0.05, EYE_Y - 0.03], [EYE_X + 0.05, EYE_Y + 0.03]])).astype(int)

    def greenness(look: Look) -> float:
        eye = face.draw(REST, Pose(), look)[low[1] : high[1], low[0] : high[0]].astype(int)
        return float((eye[..., 1] - eye[..., 0]).clip(0).mean())

    assert greenness(Look()) > 5 > 1 > greenness(Look(blink=1.0))


def test_people_differ() -> None:
    portraits = [Face(make_identity(np.random.default_rng(seed)), 64).draw().astype(int) for seed in range(8)]
    for index, first in enumerate(portraits):
        for second in portraits[index + 1 :]:
            assert np.abs(first - second).mean() > 8


def test_sizes_show_the_same_person() -> None:
    person, mouth, pose = make_identity(np.random.default_rng(5)), PHONEMES["AE"].mouth, Pose(yaw=-0.5, roll=0.04)
    small = Face(person, 256).draw(mouth, pose).astype(int)
    large = Face(person, 512).draw(mouth, pose)
    shrunk = cv2.resize(large, (256, 256), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(small - shrunk).mean() < 3
    # Other people, or the same one with another mouth, are further away.
    other = Face(person, 256).draw(PHONEMES["M"].mouth, pose).astype(int)
    region = (slice(120, 200), slice(80, 180))
    assert np.abs(small - shrunk)[region].mean() < 0.7 * np.abs(small - other)[region].mean()


def test_box_holds_eyes_and_mouth_and_moves_with_the_head() -> None:
    face = Face(_person(), 128)
    for pose in (Pose(), Pose(x=0.1, y=-0.03, roll=0.1, scale=1.05, yaw=0.8, pitch=-0.5)):
        box = face.box(REST, pose)
        points = face.placing(pose)(np.array([[-EYE_X, EYE_Y], [EYE_X, EYE_Y], [0.0, MOUTH_Y]])) / 128
        assert (points > (box.left, box.top)).all()
        assert (points < (box.right, box.bottom)).all()
        assert 0 <= box.left < box.right <= 1
    still, moved = face.box(REST, Pose()), face.box(REST, Pose(x=0.1))
    assert moved.left - still.left == pytest.approx(0.1 * face.identity.head_height)
    assert face.box(PHONEMES["AA"].mouth, Pose()).bottom > still.bottom


def test_moving_the_head_moves_the_pixels_with_it() -> None:
    """A head shifted by a whole number of pixels is the same head: the face is drawn in head coordinates."""
    person = dataclasses.replace(_person(), head_height=0.5, head_x=0.5, head_y=0.5)
    face = Face(person, 128)
    shift_px = 8
    still, moved = face.draw(), face.draw(REST, Pose(x=shift_px / (0.5 * 128)))
    rows, columns = slice(50, 84), slice(54, 74)
    shifted = moved[rows, columns.start + shift_px : columns.stop + shift_px]
    assert np.abs(shifted.astype(int) - still[rows, columns]).max() <= 2
