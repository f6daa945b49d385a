"""The crop: where the face is, and a square on whole pixels inside the frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_eval.datasets.candidates import FaceCentre, PixelBox
from lt_eval.datasets.crop import find_face, letterboxed, published_square, side_px, square_around
from lt_eval.datasets.segment import Segment
from lt_eval.media.picture import crop, fit
from lt_eval.records import Box, MediaPolicy

FRACTION = st.floats(0.0, 1.0)
SIDE = st.integers(16, 4000)


@pytest.mark.parametrize(
    ("name", "centre", "width"),
    [
        # the point between the eyes and the mouth, and the width of the face, read off frame 8 by eye
        ("face1.mp4", (0.565, 0.345), 0.30),
        ("face2.mp4", (0.45, 0.50), 0.38),
        ("hdtf_like_512.mp4", (0.57, 0.52), 0.56),
    ],
)
def test_real_faces_are_found_and_centred(
    real_media: Path, name: str, centre: tuple[float, float], width: float
) -> None:
    frames = list(Segment(real_media / "video" / name, 0.3, 3, 1.0))
    face = find_face(frames)
    assert face is not None
    found = (face.left + face.right) / 2, (face.top + face.bottom) / 2
    assert found == pytest.approx(centre, abs=0.06)
    assert 0.7 * width < face.right - face.left < 1.4 * width
    height_px, width_px = frames[0].shape[:2]
    square = square_around(face, width_px, height_px)
    assert square.left <= face.left and square.right >= face.right
    assert square.top <= face.top and square.bottom >= face.bottom


def test_a_cat_has_no_face(real_media: Path) -> None:
    assert find_face(Segment(real_media / "video/no_face_no_audio.mp4", 0.0, 4, 1.0)) is None


def test_the_face_at_the_published_centre_is_taken(real_media: Path) -> None:
    """Two speakers side by side: the annotation says which; without it the larger one is taken."""
    (left,) = Segment(real_media / "video/face2.mp4", 0.3, 1, 1.0)
    (right,) = Segment(real_media / "video/hdtf_like_512.mp4", 0.3, 1, 1.0)
    policy = MediaPolicy(size=300)
    pair = np.concatenate([fit(left, policy), fit(right, policy)], axis=1)
    for near, half in ((FaceCentre(0.23, 0.5), 0), (FaceCentre(0.78, 0.5), 1), (None, 1)):
        face = find_face([pair], near)
        assert face is not None and half * 0.5 <= face.left < face.right <= half * 0.5 + 0.5
    assert find_face([pair], FaceCentre(0.5, 0.0)) is None


def test_a_face_seen_too_seldom_is_none(real_media: Path) -> None:
    (frame,) = Segment(real_media / "video/face1.mp4", 0.3, 1, 1.0)
    empty = np.zeros_like(frame)
    assert find_face([frame, empty]) is not None
    assert find_face([frame, empty, empty]) is None
    assert find_face([]) is None


@given(FRACTION, FRACTION, FRACTION, FRACTION, SIDE, SIDE)
def test_squares_are_square_and_inside(x: float, y: float, w: float, h: float, width: int, height: int) -> None:
    """Whatever the box: whole pixels, equal sides, inside the frame, so that no pixel is invented or squeezed."""
    box = Box(x * 0.9, y * 0.9, x * 0.9 + 0.1 * w, y * 0.9 + 0.1 * h)
    pixel_box = PixelBox(round(x * 1000), round(y * 1000), 1 + round(w * 900), 1 + round(h * 900), 720)
    for square in (
        square_around(box, width, height),
        published_square(box, width, height),
        published_square(pixel_box, width, height),
    ):
        edges = np.asarray(square) * (width, height, width, height)
        assert np.allclose(edges, np.round(edges), atol=1e-6)
        assert edges[2] - edges[0] == pytest.approx(edges[3] - edges[1]) == pytest.approx(side_px(square, width))
        assert edges.min() >= 0 and edges[2] <= width + 1e-6 and edges[3] <= height + 1e-6
        assert side_px(square, width) >= 1


def test_a_published_pixel_box_is_scaled_to_this_copy() -> None:
    """HDTF counts pixels in a 720p copy; in a 1080p download the same part is 1.5 times as large."""
    box = PixelBox(left=400, top=40, width=600, height=600, frame_height=720)
    assert published_square(box, 1280, 720) == Box(400 / 1280, 40 / 720, 1000 / 1280, 640 / 720)
    assert published_square(box, 1920, 1080) == pytest.approx(published_square(box, 1280, 720))


def test_a_published_fraction_box_keeps_its_shorter_side() -> None:
    assert published_square(Box(0.2, 0.0, 0.7, 0.8), 1000, 500) == Box(0.25, 0.0, 0.65, 0.8)


@pytest.mark.parametrize(("width", "height"), [(96, 64), (64, 97), (333, 100), (640, 360)])
def test_the_letterbox_content_is_where_the_picture_is(width: int, height: int) -> None:
    """Cropping a letterboxed frame to its content leaves no bar and loses no picture."""
    white = np.full((height, width, 3), 255, np.uint8)
    framed = fit(white, MediaPolicy(size=64, fit="letterbox"))
    content = letterboxed(width, height, 64)
    assert content is not None
    inside = crop(framed, content)
    assert (inside == 255).all() and inside.size == (framed == 255).sum()


def test_a_square_frame_has_no_bars() -> None:
    assert letterboxed(100, 100, 64) is None
