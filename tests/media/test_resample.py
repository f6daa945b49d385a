from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_eval.media.resample import exact_rate, source_of_each

RATES = st.sampled_from([Fraction(16), Fraction(24), Fraction(25), Fraction(30_000, 1001), exact_rate(22.13)])


@st.composite
def irregular_times(draw: st.DrawFn) -> tuple[list[Fraction], Fraction]:
    """Starts in milliseconds, ascending from 0 (equal ones happen in damaged headers), and the end of the last."""
    gaps = draw(st.lists(st.integers(0, 300), max_size=40))
    starts = [0]
    for gap in gaps:
        starts.append(starts[-1] + gap)
    end = starts[-1] + draw(st.integers(1, 300))
    return [Fraction(s, 1000) for s in starts], Fraction(end, 1000)


@given(irregular_times(), RATES)
def test_output_shows_the_last_frame_that_starts_before_half_an_interval_later(
    times: tuple[list[Fraction], Fraction], fps: Fraction
) -> None:
    starts, end = times
    for k, index in enumerate(source_of_each(starts, end, fps)):
        horizon = (k + Fraction(1, 2)) / fps
        assert index == max(i for i, start in enumerate(starts) if start < horizon)


@given(irregular_times(), RATES)
def test_order_is_kept_and_length_is_kept_within_half_an_interval(
    times: tuple[list[Fraction], Fraction], fps: Fraction
) -> None:
    starts, end = times
    shown = source_of_each(starts, end, fps)
    assert shown == sorted(shown)
    assert len(shown) == max(1, math.floor(end * fps + Fraction(1, 2)))
    assert abs(len(shown) / fps - end) <= Fraction(1, 2) / fps or len(shown) == 1


@given(RATES, st.integers(1, 200))
def test_constant_rate_is_the_identity(fps: Fraction, count: int) -> None:
    starts = [k / fps for k in range(count)]
    assert source_of_each(starts, count / fps, fps) == list(range(count))


@given(irregular_times())
def test_native_shows_every_frame_once(times: tuple[list[Fraction], Fraction]) -> None:
    starts, end = times
    assert source_of_each(starts, end, None) == list(range(len(starts)))


@pytest.mark.parametrize(("fps", "count", "expected"), [(16, 81, 127), (30, 600, 500), (30, 199, 166), (60, 300, 125)])
def test_counts_at_25_fps(fps: int, count: int, expected: int) -> None:
    starts = [Fraction(k, fps) for k in range(count)]
    assert len(source_of_each(starts, Fraction(count, fps), Fraction(25))) == expected


def test_a_rate_written_as_a_float_means_its_fraction() -> None:
    assert exact_rate(30_000 / 1001) == Fraction(30_000, 1001)
    assert exact_rate(22.13) == Fraction(2213, 100)
    assert exact_rate(25) == 25
