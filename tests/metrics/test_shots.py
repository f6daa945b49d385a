from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_eval.metrics.shots import content_scores, cuts_of, shots_of
from lt_eval.records import Frames
from tests.clips import moving_frames

RED, GREEN, BLUE = (200, 30, 30), (30, 200, 30), (30, 30, 200)


def plain(*parts: tuple[tuple[int, int, int], int]) -> Frames:
    return np.concatenate([np.full((count, 8, 8, 3), colour, np.uint8) for colour, count in parts])


def test_a_clip_without_a_cut_is_one_shot() -> None:
    assert shots_of(moving_frames(0)) == [(0, 20)]
    assert shots_of(plain((RED, 1))) == [(0, 1)]


def test_two_clips_joined_are_two_shots() -> None:
    assert shots_of(plain((RED, 30), (BLUE, 20))) == [(0, 30), (30, 50)]


def test_the_score_is_the_mean_change_of_hue_saturation_and_value() -> None:
    # red is hue 0, green hue 60 (of 180); saturation and value are the same
    assert list(content_scores(plain((RED, 2), (GREEN, 1)))) == [0, 0, 20]
    assert list(content_scores(plain(((10, 10, 10), 1), ((100, 100, 100), 1)))) == [0, 30]


def test_scores_do_not_depend_on_the_size_of_plain_frames() -> None:
    small, large = plain((RED, 1), ((250, 250, 250), 1)), np.zeros((2, 300, 500, 3), np.uint8)
    large[:] = small[:, :1, :1]
    assert list(content_scores(large)) == pytest.approx(list(content_scores(small)))


def above(length: int, *numbers: int) -> list[bool]:
    return [number in numbers for number in range(length)]


@pytest.mark.parametrize(
    ("numbers", "cuts"),
    [
        ([14], []),  # sooner than 15 frames after the beginning
        ([15], [15]),
        ([14, 28], []),  # the first one starts the waiting anew
        ([14, 29], [29]),
        ([20, 30], [20]),  # too soon after a cut, and too short to end in one
        ([20, 30, 40, 50], [20, 50]),  # a run of changes longer than 15 frames ends in one cut
        ([20, 40], [20, 40]),
    ],
)
def test_cuts_too_close_merge(numbers: list[int], cuts: list[int]) -> None:
    assert cuts_of(above(100, *numbers)) == cuts


def test_a_run_that_does_not_rest_before_the_end_has_no_cut() -> None:
    assert cuts_of(above(60, 20, 30, 40, 50)) == [20]


@given(st.lists(st.booleans(), min_size=1, max_size=120), st.integers(1, 20))
def test_shots_are_never_shorter_than_the_rule(flags: list[bool], shortest: int) -> None:
    cuts = cuts_of(flags, shortest)
    gaps = np.diff([0, *cuts])
    assert (gaps >= shortest).all()
    assert all(flags[cut] for cut in cuts)
