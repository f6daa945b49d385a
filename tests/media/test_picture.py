from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import pytest

from lt_eval.media.picture import crop, fit, is_sideways, orient
from lt_eval.records import Box, MediaPolicy

RIGHT_ANGLES = [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] + [(0, b, c, 0) for b in (1, -1) for c in (1, -1)]


@pytest.mark.parametrize("turn", RIGHT_ANGLES)
def test_pixels_go_where_the_display_matrix_sends_them(turn: tuple[int, int, int, int]) -> None:
    a, b, c, d = turn
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    places = {(a * x + c * y, b * x + d * y): pixels[y, x] for y, x in itertools.product(range(3), range(5))}
    left, top = min(x for x, _ in places), min(y for _, y in places)
    matrix = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    upright = orient(pixels, matrix)
    assert upright.shape[:2] == ((5, 3) if is_sideways(matrix) else (3, 5))
    for (x, y), colour in places.items():
        assert (upright[y - top, x - left] == colour).all()


def test_content_is_cut_in_fractions_and_is_never_empty() -> None:
    pixels = np.arange(10 * 20 * 3, dtype=np.uint16).astype(np.uint8).reshape(10, 20, 3)
    assert np.array_equal(crop(pixels, Box(0.25, 0.2, 0.75, 0.8)), pixels[2:8, 5:15])
    assert np.array_equal(crop(pixels, Box(0, 0, 1, 1)), pixels)
    assert crop(pixels, Box(1, 1, 1, 1)).shape == (1, 1, 3)


@pytest.mark.parametrize("mode", ["crop", "letterbox", "squash"])
@pytest.mark.parametrize("shape", [(31, 47), (64, 20), (16, 16)])
def test_every_fit_gives_the_square(mode: Literal["crop", "letterbox", "squash"], shape: tuple[int, int]) -> None:
    pixels = np.full((*shape, 3), 130, np.uint8)
    framed = fit(pixels, MediaPolicy(size=32, fit=mode))
    assert framed.shape == (32, 32, 3)
    assert (framed[16, 16] == 130).all()


def test_letterbox_keeps_all_between_equal_bars_and_crop_keeps_the_centre() -> None:
    pixels = np.full((40, 80, 3), 50, np.uint8)
    pixels[:, 20:60] = 200
    boxed = fit(pixels, MediaPolicy(size=40, fit="letterbox"))
    assert (boxed[:10] == 0).all() and (boxed[30:] == 0).all() and (boxed[10:30] > 0).all()
    assert (fit(pixels, MediaPolicy(size=40, fit="crop")) == 200).all()


def test_shrinking_takes_the_mean_of_what_a_pixel_covers() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[::2] = 200
    assert (fit(pixels, MediaPolicy(size=16)) == 100).all()


def test_the_right_size_is_left_alone() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    assert np.array_equal(fit(pixels, MediaPolicy(size=24)), pixels)
    assert fit(pixels, MediaPolicy()) is pixels
