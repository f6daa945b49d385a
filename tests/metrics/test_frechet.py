from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lt_eval.errors import UnscorableError
from lt_eval.metrics.frechet import (
    frechet_distance,
    frechet_floor,
    frechet_infinity,
    frechet_infinity_influence,
    frechet_influence,
    moments,
)
from lt_eval.records import Features

Matrix = NDArray[np.float64]

SEEDS = st.integers(0, 2**32 - 1)
SHAPES = [(10, 8, 16), (10, 8, 300)]  # clips, rows a clip, d: more rows than d, fewer rows than d


def clips_like(seed: int, clips: int, rows: int, d: int, *, shift: float = 0.0, mix: int = 7) -> list[Features]:
    """Clustered Gaussian rows, a linear mix of d sources that falls off like real features' spectra."""
    rng = np.random.default_rng(seed)
    spread = np.random.default_rng(mix).standard_normal((d, d)) / np.sqrt(np.arange(1, d + 1))[:, None]
    people = rng.standard_normal((clips, 1, d))
    x = (people + rng.standard_normal((clips, rows, d))) @ spread + shift
    return list(x.astype(np.float32))


def whitened(rows: int, rank: int, seed: int) -> Matrix:
    """Rows [rows, rank] of mean zero whose sample covariance (ddof 1) is the identity."""
    x = np.random.default_rng(seed).standard_normal((rows, rank))
    q, _ = np.linalg.qr(x - x.mean(axis=0))
    return np.asarray(q * np.sqrt(rows - 1))


def rotation(d: int, seed: int) -> Matrix:
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))
    return np.asarray(q, dtype=np.float64)


def in_clips(x: Matrix, clips: int) -> list[Features]:
    # Features are float32 by contract; float64 rows pass through unrounded, which a closed form to 1e-9 needs.
    return [part for part in np.array_split(x, clips)]  # type: ignore[misc]


@pytest.mark.parametrize(("clips", "rows", "d"), SHAPES)
def test_a_set_is_at_no_distance_from_itself_in_any_order(clips: int, rows: int, d: int) -> None:
    x = clips_like(0, clips, rows, d)
    total = moments(x).total_variance / (clips * rows - 1)
    assert 0.0 <= frechet_distance(x, x) < 1e-10 * total
    assert 0.0 <= frechet_distance(x, x[::-1]) < 1e-10 * total


@pytest.mark.parametrize(("clips", "rows", "d"), SHAPES)
def test_symmetry(clips: int, rows: int, d: int) -> None:
    x, y = clips_like(0, clips, rows, d), clips_like(1, clips + 3, rows, d, mix=8)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-9)


@pytest.mark.parametrize(("rows", "d", "rank"), [(400, 12, 12), (60, 200, 40), (400, 50, 20)])
def test_covariances_with_known_principal_angles_have_a_closed_form(rows: int, d: int, rank: int) -> None:
    """Full rank; rank-deficient with fewer rows than d; rank-deficient with more rows than d."""
    rng = np.random.default_rng(3)
    first, second = rng.uniform(0.5, 3.0, rank), rng.uniform(0.5, 3.0, rank)
    angles = np.zeros(rank) if 2 * rank > d else rng.uniform(0.0, 1.4, rank)
    basis = rotation(d, 4)
    turned = np.cos(angles)[:, None] * basis[:rank]
    if 2 * rank <= d:
        turned = turned + np.sin(angles)[:, None] * basis[rank : 2 * rank]
    shift = rng.standard_normal(d)
    x = whitened(rows, rank, 5) * first @ basis[:rank]
    y = whitened(rows, rank, 6) * second @ turned + shift
    expected = shift @ shift + (first**2 + second**2 - 2 * first * second * np.cos(angles)).sum()
    assert frechet_distance(in_clips(x, 4), in_clips(y, 5)) == pytest.approx(expected, rel=1e-9)


def test_a_shift_and_a_scale_of_one_set_have_a_closed_form() -> None:
    x = clips_like(0, 12, 10, 24)
    variance = moments(x).total_variance / (120 - 1)
    assert frechet_distance(x, [clip + np.float32(0.5) for clip in x]) == pytest.approx(24 * 0.25, rel=1e-5)
    mean = np.concatenate(x).astype(np.float64).mean(axis=0)
    assert frechet_distance(x, [2 * clip for clip in x]) == pytest.approx(variance + mean @ mean, rel=1e-9)


def test_agrees_with_a_matrix_square_root() -> None:
    x, y = clips_like(0, 40, 20, 32), clips_like(1, 30, 20, 32, shift=0.1, mix=8)
    a, b = np.concatenate(x).astype(np.float64), np.concatenate(y).astype(np.float64)
    for ddof in (0, 1):
        s1, s2 = np.cov(a.T, ddof=ddof), np.cov(b.T, ddof=ddof)
        root = scipy.linalg.sqrtm(s1 @ s2)
        expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s1 + s2) - 2 * np.trace(root).real
        assert frechet_distance(x, y, ddof=ddof) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rows", [19, 20, 21, 22])
def test_both_branches_agree_where_rows_meet_the_width(rows: int) -> None:
    """Columns of zeros change no distance, but they change which branch is taken."""
    x, y = clips_like(0, 1, rows, 20), clips_like(1, 1, rows, 20, mix=8)
    padded = [[np.pad(clip, ((0, 0), (0, 3)))[:, ::-1] for clip in side] for side in (x, y)]
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(*padded), rel=1e-9)


@pytest.mark.parametrize("frozen", ["generated", "reference", "both"])
def test_repeated_rows_change_nothing_but_the_divisor(frozen: str) -> None:
    """Frozen frames: more rows than d, yet a covariance of low rank. With ddof 0 repeats leave it as it is."""
    x, y = clips_like(0, 6, 1, 40), clips_like(1, 6, 1, 40, mix=8)
    many_x = [np.repeat(clip, 20, axis=0) for clip in x] if frozen != "reference" else x
    many_y = [np.repeat(clip, 20, axis=0) for clip in y] if frozen != "generated" else y
    assert frechet_distance(many_x, many_y, ddof=0) == pytest.approx(frechet_distance(x, y, ddof=0), rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, wide=st.booleans())
def test_moving_or_turning_both_sets_changes_nothing(seed: int, wide: bool) -> None:
    d = 60 if wide else 10
    x, y = clips_like(seed, 6, 5, d), clips_like(seed + 1, 7, 5, d, mix=8)
    turn, move = rotation(d, seed), np.random.default_rng(seed).standard_normal(d) * 10
    moved = [in_clips(np.concatenate(side).astype(np.float64) @ turn + move, 3) for side in (x, y)]
    assert frechet_distance(*moved) == pytest.approx(frechet_distance(x, y), rel=1e-8)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, wide=st.booleans())
def test_neither_order_nor_partition_of_the_rows_matters(seed: int, wide: bool) -> None:
    d = 60 if wide else 10
    rng = np.random.default_rng(seed)
    x, y = clips_like(seed, 6, 5, d), clips_like(seed + 1, 7, 5, d, mix=8)
    rows = rng.permutation(np.concatenate(x))
    cuts = np.sort(rng.integers(0, len(rows) + 1, size=4))  # some clips may be empty
    assert frechet_distance(np.split(rows, cuts), y) == pytest.approx(frechet_distance(x, y), rel=1e-9)


def test_a_large_common_offset_costs_no_digits() -> None:
    """Offset and steps are exact in float32, so any difference is the arithmetic's."""
    rng = np.random.default_rng(0)
    x, y = (rng.integers(-64, 64, (3, 2000, 6)).astype(np.float32) / 16 for _ in range(2))
    far = [[clip + np.float32(2**14) for clip in side] for side in (x, y)]
    assert frechet_distance(*far) == pytest.approx(frechet_distance(list(x), list(y)), rel=1e-8)


def weighted_distance(sides: Sequence[Sequence[Features]], weights: Sequence[Matrix], ddof: int) -> float:
    """The distance when clips weigh unequally, the divisor held in the ratio N / (N - ddof)."""
    means, roots = [], []
    for clips, weight in zip(sides, weights, strict=True):
        x = np.concatenate(clips).astype(np.float64)
        share = np.repeat(weight, [len(clip) for clip in clips])
        share = share / share.sum()
        means.append(share @ x)
        roots.append(np.sqrt(share * len(x) / (len(x) - ddof))[:, None] * (x - means[-1]))
    overlap = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    return float(((means[0] - means[1]) ** 2).sum() + sum((root**2).sum() for root in roots) - 2 * overlap)


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize(("clips", "rows", "d"), [*SHAPES, (10, 8, 85)])
def test_influence_is_the_derivative_in_the_clips_weights(clips: int, rows: int, d: int, ddof: int) -> None:
    """Both branches, and one side of each: 80 generated and 96 reference rows around d = 85."""
    x = [clip[: rows - i % 3] for i, clip in enumerate(clips_like(0, clips, rows, d))]
    y = clips_like(1, clips + 2, rows, d, shift=0.2, mix=8)
    sides, weights = (x, y), (np.ones(len(x)), np.ones(len(y)))
    influence = frechet_influence(x, y, ddof=ddof)
    step = 1e-4
    for side in (0, 1):
        slopes = []
        for index in range(len(sides[side])):
            ends = []
            for sign in (1, -1):
                moved = [weight.copy() for weight in weights]
                moved[side][index] += sign * step
                ends.append(weighted_distance(sides, moved, ddof))
            slopes.append(len(sides[side]) * (ends[0] - ends[1]) / (2 * step))
        np.testing.assert_allclose(influence[side], slopes, rtol=1e-5, atol=1e-5 * np.abs(slopes).max())
        assert abs(influence[side].sum()) < 1e-9 * np.abs(influence[side]).sum()


def test_influence_holds_for_frozen_frames() -> None:
    x, y = clips_like(0, 6, 1, 40), clips_like(1, 60, 4, 40, mix=8)
    frozen = [np.repeat(clip, 20, axis=0) for clip in x]
    once, often = frechet_influence(x, y, ddof=0), frechet_influence(frozen, y, ddof=0)
    np.testing.assert_allclose(often.generated, once.generated, rtol=1e-6)
    np.testing.assert_allclose(often.reference, once.reference, rtol=1e-6, atol=1e-6 * np.abs(once.reference).max())


@pytest.mark.parametrize(("clips", "d"), [(8, 48), (50, 60), (60, 16)])
def test_floor_is_what_fresh_clips_of_the_reference_would_give(clips: int, d: int) -> None:
    draws = [clips_like(seed, clips, 7, d) for seed in range(40)]
    truth = np.mean([frechet_distance(a, b) for a, b in zip(draws[::2], draws[1::2], strict=True)])
    floors = [frechet_floor(reference, clips) for reference in draws]
    assert np.mean(floors) == pytest.approx(truth, rel=0.15)


def test_floor_falls_with_more_clips_and_scales_with_the_features() -> None:
    reference = clips_like(0, 24, 7, 48)
    floors = [frechet_floor(reference, clips) for clips in (6, 12, 24, 48)]
    assert floors == sorted(floors, reverse=True)
    assert frechet_floor([4 * clip for clip in reference], 24) == pytest.approx(16 * floors[2], rel=1e-9)
    assert frechet_floor(reference, 24, seed=0) == floors[2] != frechet_floor(reference, 24, seed=1)


def test_floor_of_one_clip_repeated_is_zero() -> None:
    assert frechet_floor([np.ones((3, 5), np.float32)] * 8, 8) == 0.0


def test_infinity_of_a_shifted_copy_is_the_shift() -> None:
    """Counterparts share their chance, so every half gives the same distance and there is no bias to take off."""
    x = clips_like(0, 15, 4, 20)
    shifted = [clip + np.float32(0.5) for clip in x]
    assert frechet_infinity(shifted, x) == pytest.approx(20 * 0.25, rel=1e-4)
    assert frechet_infinity(shifted, x, seed=3) == pytest.approx(20 * 0.25, rel=1e-4)


def test_infinity_takes_off_the_bias_of_few_clips() -> None:
    pairs = [(clips_like(seed, 40, 3, 8), clips_like(seed + 100, 40, 3, 8)) for seed in range(10)]
    plain = np.mean([frechet_distance(x, y) for x, y in pairs])
    assert abs(np.mean([frechet_infinity(x, y) for x, y in pairs])) < 0.25 * plain
    unequal = [frechet_infinity(x, y[:29]) for x, y in pairs]
    assert abs(np.mean(unequal)) < 0.3 * plain


def test_infinity_influence_foretells_its_scatter() -> None:
    values, errors = [], []
    for seed in range(60):
        x, y = clips_like(seed, 16, 3, 8, shift=0.5), clips_like(seed + 1000, 16, 3, 8)
        pulls = frechet_infinity_influence(x, y)
        assert pulls.generated.sum() == pytest.approx(0.0, abs=1e-8)
        values.append(frechet_infinity(x, y))
        errors.append(sum((side**2).sum() / (16 * 15) for side in pulls))
    assert 0.6 < np.sqrt(np.mean(errors)) / np.std(values) < 2.0


class Stored(Sequence[Features]):
    """A lazy reader that counts its reads."""

    def __init__(self, clips: list[Features]) -> None:
        self.clips, self.reads = clips, 0

    def __len__(self) -> int:
        return len(self.clips)

    @overload
    def __getitem__(self, index: int) -> Features: ...
    @overload
    def __getitem__(self, index: slice) -> list[Features]: ...
    def __getitem__(self, index: int | slice) -> Features | list[Features]:
        self.reads += 1
        return self.clips[index]

    def __iter__(self) -> Iterator[Features]:
        for index in range(len(self)):
            yield self[index]


def test_a_lazy_reference_is_read_once_for_all_methods_and_forgotten_with_its_reader() -> None:
    x = clips_like(0, 10, 8, 16)
    reference = Stored(clips_like(1, 10, 8, 16))
    values = {frechet_distance(x, reference) for _ in range(3)}
    assert len(values) == 1
    assert reference.reads == 10
    assert moments(reference) is moments(reference)
    known = weakref.ref(moments(reference))
    del reference
    gc.collect()
    assert known() is None


def test_a_list_may_change_between_calls() -> None:
    x, y = clips_like(0, 10, 8, 16), clips_like(1, 10, 8, 16)
    before = frechet_distance(x, y)
    y[0] = y[0] + 5
    assert frechet_distance(x, y) > before


GOOD = [np.ones((3, 4), np.float32), np.zeros((3, 4), np.float32)]


@pytest.mark.parametrize(
    ("generated", "reason"),
    [
        ([], "no_clips"),
        ([np.ones((1, 4), np.float32)], "too_few_rows"),
        ([np.zeros((0, 4), np.float32)], "too_few_rows"),
        ([np.full((3, 4), np.nan, np.float32)], "features_not_finite"),
        ([np.full((3, 4), np.inf, np.float32)], "features_not_finite"),
        ([np.ones((3, 5), np.float32)], "feature_shape"),
        ([*GOOD, np.ones((3, 5), np.float32)], "feature_shape"),
        ([np.ones(4, np.float32)], "feature_shape"),
    ],
)
def test_what_has_no_distance_says_why(generated: list[Features], reason: str) -> None:
    for pair in ((generated, GOOD), (GOOD, generated)):
        with pytest.raises(UnscorableError) as caught:
            frechet_distance(*pair)
        assert caught.value.code == reason


@pytest.mark.parametrize("clips", [1, 3])
def test_too_few_clips_for_a_floor_or_a_limit(clips: int) -> None:
    with pytest.raises(UnscorableError, match="at least 4 clips"):
        frechet_floor(clips_like(0, 8, 3, 4), clips)
    with pytest.raises(UnscorableError, match="at least 2 clips"):
        frechet_infinity(clips_like(0, 1, 9, 4), clips_like(0, clips, 9, 4))
