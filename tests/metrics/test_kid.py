from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lt_eval.errors import UnscorableError
from lt_eval.metrics.kid import kernel_distance, kernel_floor, kernel_influence
from lt_eval.records import Features

Matrix = NDArray[np.float64]


def clips_like(
    seed: int, clips: int, rows: int, d: int, *, shift: float = 0.0, within: float = 0.5, uneven: int = 0
) -> list[Features]:
    """Gaussian rows of unit variance, correlated within a clip; clip lengths from `rows` to `rows` + `uneven`."""
    rng = np.random.default_rng(seed)
    lengths = rows + rng.integers(0, uneven + 1, clips)
    return [
        np.asarray(
            np.sqrt(within) * rng.standard_normal((1, d)) + np.sqrt(1 - within) * rng.standard_normal((n, d)) + shift,
            dtype=np.float32,
        )
        for n in lengths
    ]


def weighted_by_brute_force(sides: tuple[list[Features], list[Features]], weights: tuple[Matrix, Matrix]) -> float:
    """All pairs at once: sum of w_i w_j k(x_i, x_j) over i != j, divided by the weights used."""
    x, y = (np.concatenate(side).astype(np.float64) for side in sides)
    a, b = (np.repeat(w, [len(c) for c in side]) for side, w in zip(sides, weights, strict=True))

    def kernel(p: Matrix, q: Matrix) -> Matrix:
        return np.asarray((p @ q.T / p.shape[1] + 1) ** 3)

    def own(p: Matrix, w: Matrix) -> float:
        pairs = np.outer(w, w) - np.diag(w**2)
        return float((kernel(p, p) * pairs).sum() / pairs.sum())

    return own(x, a) + own(y, b) - 2 * float(a @ kernel(x, y) @ b / (a.sum() * b.sum()))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), d=st.sampled_from([1, 5, 40]))
def test_equals_the_sum_over_all_pairs(seed: int, d: int) -> None:
    """Around 1,400 rows: several blocks, their borders inside clips."""
    x, y = clips_like(seed, 40, 1, d, uneven=70), clips_like(seed + 1, 30, 1, d, shift=0.3, uneven=70)
    expected = weighted_by_brute_force((x, y), (np.ones(40), np.ones(30)))
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_equal_sets_score_below_zero_by_the_pairs_left_out() -> None:
    """The unbiased estimate of a set with itself: (mean over i != j) - (mean over all), twice."""
    x = clips_like(0, 5, 4, 3)
    rows = np.concatenate(x).astype(np.float64)
    kernel = (rows @ rows.T / 3 + 1) ** 3
    without_self = (kernel.sum() - np.trace(kernel)) / (20 * 19)
    assert kernel_distance(x, x) == pytest.approx(2 * (without_self - kernel.mean()), rel=1e-9)
    assert kernel_distance(x, x) < 0


def test_symmetry_order_and_partition() -> None:
    x, y = clips_like(0, 12, 3, 6, uneven=5), clips_like(1, 9, 3, 6, shift=0.2)
    value = kernel_distance(x, y)
    assert kernel_distance(y, x) == pytest.approx(value, rel=1e-9)
    assert kernel_distance(x[::-1], y) == pytest.approx(value, rel=1e-9)
    assert kernel_distance([np.concatenate(x)], y) == pytest.approx(value, rel=1e-9)


def test_unbiased_for_independent_rows() -> None:
    values = [
        kernel_distance(clips_like(seed, 20, 1, 8, within=0.0), clips_like(seed + 1000, 25, 1, 8, within=0.0))
        for seed in range(300)
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))


def test_floor_is_the_mean_over_fresh_clips() -> None:
    """Rows of a clip resemble each other, so even equal distributions score above zero, by a known amount."""
    values, floors = [], []
    for seed in range(200):
        x, y = clips_like(seed, 6, 7, 8, within=0.7), clips_like(seed + 1000, 10, 7, 8, within=0.7)
        values.append(kernel_distance(x, y))
        floors.append(kernel_floor(y, 6))
    error = np.std(values) / np.sqrt(200) + np.std(floors) / np.sqrt(200)
    assert abs(np.mean(values) - np.mean(floors)) < 3 * error
    assert np.mean(floors) > 10 * error


def test_floor_of_single_rows_is_zero() -> None:
    assert kernel_floor(clips_like(0, 10, 1, 8), 5) == 0.0


def test_influence_is_the_derivative_in_the_clips_weights() -> None:
    """A clip's weight w counts each of its rows w times, a row's pair with itself still left out."""
    sides = clips_like(0, 8, 1, 6, uneven=6), clips_like(1, 11, 1, 6, shift=0.3, uneven=6)
    influence = kernel_influence(*sides)
    step = 1e-4
    for side in (0, 1):
        slopes = []
        for index in range(len(sides[side])):
            ends = []
            for sign in (1, -1):
                weights = (np.ones(8), np.ones(11))
                weights[side][index] += sign * step
                ends.append(weighted_by_brute_force(sides, weights))
            slopes.append(len(sides[side]) * (ends[0] - ends[1]) / (2 * step))
        np.testing.assert_allclose(influence[side], slopes, rtol=1e-5, atol=1e-5 * np.abs(slopes).max())
        assert abs(influence[side].sum()) < 1e-9 * np.abs(influence[side]).sum()


def test_thinning_keeps_the_value_and_bounds_the_rows() -> None:
    """Forty nearly equal frames a clip: a quarter of them tells the same."""
    x, y = clips_like(0, 20, 40, 8, within=0.99), clips_like(1, 20, 40, 8, shift=1.0, within=0.99)
    whole = kernel_distance(x, y)
    thin = kernel_distance(x, y, max_rows=200)
    assert thin == pytest.approx(kernel_distance([c[2::4] for c in x], [c[2::4] for c in y]), rel=1e-9)
    assert thin != whole
    assert thin == pytest.approx(whole, rel=0.05)


@pytest.mark.parametrize(
    ("generated", "reason"),
    [
        ([], "no_clips"),
        ([np.ones((1, 4), np.float32)], "too_few_rows"),
        ([np.full((3, 4), np.nan, np.float32)], "features_not_finite"),
        ([np.ones((3, 5), np.float32)], "feature_shape"),
    ],
)
def test_what_has_no_distance_says_why(generated: list[Features], reason: str) -> None:
    with pytest.raises(UnscorableError) as caught:
        kernel_distance(generated, clips_like(0, 3, 3, 4))
    assert caught.value.code == reason


def test_one_clip_has_no_floor() -> None:
    with pytest.raises(UnscorableError, match="at least 2 reference clips"):
        kernel_floor(clips_like(0, 1, 9, 4), 5)
