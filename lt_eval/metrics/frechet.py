"""Frechet distance between two sets of clips: the number behind FID and FVD.

    F = |mu1 - mu2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^1/2)

of the Gaussians fitted to the rows (frames, windows) of all clips of each side: Dowson and Landau 1982, Heusel et al.
2017 (arXiv 1706.08500). Covariances divide by N - ddof; ddof 1 is numpy.cov's and pytorch-fid's, ddof 0 StyleGAN-V's.

With any factors S = R'R the trace is the nuclear norm of R1 R2' (the sum of its singular values), so no matrix square
root is formed. The factor is the centred rows themselves where N <= d, which is exact for rank-deficient covariances;
otherwise a Cholesky factor R2, and the singular values are the roots of the eigenvalues of R2 S1 R2'. Where rounding
hides the least of those, the singular values are taken directly, of factors cut to their numerical rank where they have
no Cholesky factor (frozen frames, dead features).

Everything is float64 on the host, whatever the features were. Sets are read one clip at a time: memory is O(d^2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lt_eval.errors import UnscorableError
from lt_eval.interfaces import Influence
from lt_eval.metrics.clip_sets import Memo, check_widths, checked_clips

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lt_eval.records import Features

Matrix: TypeAlias = NDArray[np.float64]

_BLOCK_ROWS = 4096
_SPLITS = 4  # random splits averaged at each size; more do not help, all are of the same clips
_RESOLVED = 1e-9  # relative doubt in a sum of roots above which it is taken from singular values
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and scatter of the rows of a set; what the Frechet distance knows of it.

    Attributes:
        rows: N, at least 2.
        mean: float64 [D].
        centred: float64 [N, D], rows less their mean, where N <= D; else None.
        scatter: float64 [D, D], sum of the outer products of the centred rows, where N > D; else None.
        total_variance: trace of the scatter.
    """

    rows: int
    mean: Matrix
    centred: Matrix | None
    scatter: Matrix | None
    total_variance: float

    @cached_property
    def cholesky(self) -> Matrix | None:
        """Lower L with L L' = scatter, or None where the scatter is singular to rounding or not held."""
        if self.scatter is None:
            return None
        try:
            lower: Matrix = np.asarray(np.linalg.cholesky(self.scatter), dtype=np.float64)
        except np.linalg.LinAlgError:
            return None
        pivots = np.diagonal(lower) ** 2
        return lower if pivots.min() > len(pivots) * _EPS * self.scatter.diagonal().max() else None

    @cached_property
    def factor(self) -> Matrix:
        """R [rank, D] with R'R = scatter, without the directions that hold only rounding noise."""
        if self.scatter is None:
            assert self.centred is not None
            return self.centred
        if self.cholesky is not None:
            upper: Matrix = self.cholesky.T
            return upper
        values, vectors = np.linalg.eigh(self.scatter)
        kept = values > max(len(values) * _EPS * values[-1], 0.0)
        root: Matrix = np.sqrt(values[kept])[:, None] * vectors[:, kept].T
        return root


_MOMENTS: Memo[Moments] = Memo()


def moments(clips: Sequence[Features]) -> Moments:
    """Return the moments of all rows of a set, read in one pass and remembered as `Memo` says.

    Raises:
        UnscorableError: no clip, fewer than two rows in all, rows of unlike width, or a value that is not finite.
    """
    return _MOMENTS.get(lambda: _read_moments(clips), clips)


def _read_moments(clips: Iterable[Features]) -> Moments:
    pending: list[Features] = []
    rows = pending_rows = 0
    scatter: Matrix | None = None
    shift = total = np.zeros(0)
    for clip in checked_clips(clips):
        if len(clip) == 0:
            continue
        if rows == 0:
            # Squares are summed about a point inside the cloud; about zero, a large offset would cost all digits.
            shift = clip.mean(axis=0, dtype=np.float64)
            total = np.zeros_like(shift)
        rows, pending_rows = rows + len(clip), pending_rows + len(clip)
        pending.append(clip)
        if rows > len(shift) and pending_rows >= _BLOCK_ROWS:
            scatter, total = _fold(pending, shift, scatter, total)
            pending, pending_rows = [], 0
    if rows < 2:
        raise UnscorableError(
            "too_few_rows",
            f"a Frechet distance needs a covariance, so at least 2 feature rows in all; the clips gave {rows}. "
            "Score more or longer clips.",
        )
    if rows <= len(shift):
        stacked = np.concatenate(pending).astype(np.float64)
        mean = stacked.mean(axis=0)
        stacked -= mean
        return Moments(rows, mean, stacked, None, float(np.vdot(stacked, stacked)))
    scatter, total = _fold(pending, shift, scatter, total)
    scatter -= np.outer(total / rows, total)
    return Moments(rows, shift + total / rows, None, scatter, float(np.trace(scatter)))


def _fold(clips: Sequence[Features], shift: Matrix, scatter: Matrix | None, total: Matrix) -> tuple[Matrix, Matrix]:
    """Add the rows of `clips` to the sums of products and of rows, both about `shift`."""
    scatter = np.zeros((len(shift), len(shift))) if scatter is None else scatter
    stacked = np.concatenate([np.zeros((0, len(shift)), np.float32), *clips])
    for start in range(0, len(stacked), _BLOCK_ROWS):
        block = stacked[start : start + _BLOCK_ROWS] - shift  # float64
        scatter += block.T @ block
        total = total + block.sum(axis=0)
    return scatter, total


def frechet_distance(generated: Sequence[Features], reference: Sequence[Features], *, ddof: int = 1) -> float:
    """Return the Frechet distance between all rows of two sets of clips; >= 0, in squared feature units.

    Args:
        generated: float32 [n_i, D] a clip.
        reference: the same of the reference clips.
        ddof: covariances divide by N - ddof.

    Raises:
        UnscorableError: a side has no clip, fewer than two rows, unlike widths, or values that are not finite.
    """
    return _distance(*_both(generated, reference), ddof)


def _both(generated: Sequence[Features], reference: Sequence[Features]) -> tuple[Moments, Moments]:
    ours, theirs = moments(generated), moments(reference)
    check_widths(len(ours.mean), len(theirs.mean))
    return ours, theirs


def _distance(ours: Moments, theirs: Moments, ddof: int) -> float:
    divisors = ours.rows - ddof, theirs.rows - ddof
    shift = ours.mean - theirs.mean
    spread = ours.total_variance / divisors[0] + theirs.total_variance / divisors[1]
    overlap = _nuclear_norm(ours, theirs) / np.sqrt(divisors[0] * divisors[1])
    # Equal sets leave a rounding residue of either sign; the distance itself is never negative.
    return max(float(shift @ shift + spread - 2.0 * overlap), 0.0)


def _nuclear_norm(ours: Moments, theirs: Moments) -> float:
    """Return the trace of the square root of the product of two scatters."""
    if ours.scatter is not None and theirs.cholesky is not None:
        squares = np.linalg.eigvalsh(theirs.cholesky.T @ ours.scatter @ theirs.cholesky)
        roots = np.sqrt(np.maximum(squares, 0.0))
        # An eigenvalue is known to about one rounding of the largest, its root the worse the smaller it is.
        rounding = _EPS * squares[-1]
        doubts = rounding / np.maximum(roots, np.sqrt(rounding))
        if np.linalg.norm(doubts) < _RESOLVED * roots.sum():
            return float(roots.sum())
    return float(np.linalg.svd(ours.factor @ theirs.factor.T, compute_uv=False).sum())


def frechet_influence(generated: Sequence[Features], reference: Sequence[Features], *, ddof: int = 1) -> Influence:
    """Return each clip's first-order pull on `frechet_distance`: n * dF/dw, all clips weighing 1; sums to zero a side.

    A clip's weight multiplies its rows in mean and covariance, whose divisor stays in the ratio N / (N - ddof). The
    gradient of the distance in S1 is I - T, T the optimal transport map from the first Gaussian to the second (Olkin
    and Pukelsheim 1982); written with the factors' singular vectors it needs no inverse of a covariance, so it holds
    for singular ones too.

    Raises:
        UnscorableError: as `frechet_distance`.
    """
    return _influence(generated, reference, *_both(generated, reference), ddof)


def _influence(
    generated: Iterable[Features], reference: Iterable[Features], ours: Moments, theirs: Moments, ddof: int
) -> Influence:
    root_to_theirs, root_to_ours = _transport_roots(ours, theirs)
    ratio = np.sqrt((ours.rows - ddof) / (theirs.rows - ddof))
    shift = ours.mean - theirs.mean
    return Influence(
        _pulls(generated, ours, root_to_theirs * np.sqrt(ratio), shift, ddof),
        _pulls(reference, theirs, root_to_ours / np.sqrt(ratio), -shift, ddof),
    )


def _transport_roots(ours: Moments, theirs: Moments) -> tuple[Matrix, Matrix]:
    """Return B1, B2 [rank, D]: B'B is the map that carries the one scatter to the other, and back.

    With R1 R2' = U S V' these are S^-1/2 V' R2 and S^-1/2 U' R1. Singular values within rounding of zero are left out:
    no reweighting of clips leaves the range of their scatter, so they carry no derivative.
    """
    if ours.scatter is not None and theirs.cholesky is not None:
        onto = theirs.cholesky.T @ ours.scatter  # [D, D]
        squares, right = np.linalg.eigh(onto @ theirs.cholesky)
        if squares[0] > len(squares) * _EPS * squares[-1]:
            quarter = squares[:, None] ** 0.25
            return (right.T @ theirs.cholesky.T) / quarter, (right.T @ onto) / quarter**3
    left, values, right_t = np.linalg.svd(ours.factor @ theirs.factor.T, full_matrices=False)
    kept = values > max(left.shape) * _EPS * values.max(initial=0.0)
    root = np.sqrt(values[kept])[:, None]
    return (right_t[kept] @ theirs.factor) / root, (left[:, kept].T @ ours.factor) / root


def _pulls(clips: Iterable[Features], side: Moments, root: Matrix, shift: Matrix, ddof: int) -> Matrix:
    """Return n * dF/dw of one side's clips; `shift` is its mean less the other side's."""
    rows, pulls = [], []
    for clip in clips:
        centred = clip - side.mean  # float64
        carried = centred @ root.T
        spread = (np.vdot(centred, centred) - np.vdot(carried, carried)) / (side.rows - ddof)
        rows.append(len(clip))
        pulls.append(spread + 2.0 * (centred.sum(axis=0) @ shift) / side.rows)
    return np.asarray(len(rows) * (np.array(pulls) - np.array(rows) / side.rows * sum(pulls)))


def frechet_floor(reference: Sequence[Features], clips: int, *, ddof: int = 1, seed: int = 0) -> float:
    """Estimate the distance that `clips` clips drawn from the reference's own distribution would have to it.

    Two finite samples of one distribution are a positive distance apart, which falls as 1/N only once N is large
    against the effective dimension. The reference is split at random into two disjoint groups, of the two sizes in
    question scaled to use all its clips, and of half those sizes; distances between such groups are fair draws at their
    sizes. F = a / (m + b), 1/m = 1/m1 + 1/m2, follows the 1/m law and levels off for few clips, as the distance does;
    through both it gives the value at the full sizes. benchmarks/coverage.md has its error.

    It speaks of two unrelated samples. A method that redraws the very people and speech of the reference shares their
    chance with it, and can lie below.

    Args:
        reference: float32 [n_i, D] a clip.
        clips: number of clips on the generated side, taken to be as long as the reference's.
        ddof: covariances divide by N - ddof.
        seed: of the random splits.

    Raises:
        UnscorableError: fewer than 4 clips on either side, or as `frechet_distance` at the smallest split.
    """
    if min(clips, len(reference)) < 4:
        raise UnscorableError(
            "too_few_clips",
            f"the floor is extrapolated from splits and half-sized splits, so it needs at least 4 clips on both sides; "
            f"given {clips} generated and {len(reference)} reference clips.",
        )
    rng = np.random.default_rng(seed)
    share = len(reference) / (clips + len(reference))
    inverse_rates, distances = [], []
    for level in (share, share / 2):
        sizes = _share(clips, level), _share(len(reference), level)
        inverse_rates.append(1 / (1 / sizes[0] + 1 / sizes[1]))
        distances.append(_mean_split_distance(reference, sizes, ddof, rng))
    inverse_rate = 1 / (1 / clips + 1 / len(reference))
    if min(distances) <= 0.0:
        return 0.0
    slope = (1 / distances[0] - 1 / distances[1]) / (inverse_rates[0] - inverse_rates[1])
    # Noise may bend the line past its limits: no fall at all, or one faster than 1/N.
    slope = min(max(slope, 0.0), 1 / (distances[0] * inverse_rates[0]))
    return float(1 / (1 / distances[0] + slope * (inverse_rate - inverse_rates[0])))


def _share(clips: int, fraction: float) -> int:
    return max(int(clips * fraction + 1e-9), 1)


def _mean_split_distance(
    reference: Sequence[Features], sizes: tuple[int, int], ddof: int, rng: np.random.Generator
) -> float:
    distances = []
    for _ in range(_SPLITS):
        order = rng.permutation(len(reference))
        first, second = order[: sizes[0]], order[sizes[0] : sum(sizes)]
        distances.append(_distance(_subset_moments(reference, first), _subset_moments(reference, second), ddof))
    return float(np.mean(distances))


def _subset(clips: Sequence[Features], chosen: NDArray[np.intp]) -> Iterator[Features]:
    return (clips[int(index)] for index in chosen)


def _subset_moments(clips: Sequence[Features], chosen: NDArray[np.intp]) -> Moments:
    return _read_moments(_subset(clips, chosen))


def frechet_infinity(
    generated: Sequence[Features], reference: Sequence[Features], *, ddof: int = 1, seed: int = 0
) -> float:
    """Extrapolate the distance linearly in 1/N to infinitely many clips on both sides (Chong and Forsyth 2020).

    arXiv 1911.07023 resamples generated images against a large fixed reference. Here both sides are samples of a few
    clips, so both are resampled, whole clips at a time and counterparts (same position) together, and the line runs in
    1/N through the distance of all clips and the mean distance of random halves. Where N is small against the
    dimension the true curve is hollow, and the result is still too large; it may be negative for sets that hardly
    differ, since it is an estimate of a difference.

    Raises:
        UnscorableError: fewer than 2 clips on a side, or as `frechet_distance` of halves.
    """
    halves, reach = _halves(len(generated), len(reference), seed)
    whole = frechet_distance(generated, reference, ddof=ddof)
    mean = np.mean(
        [
            _distance(_subset_moments(generated, ours), _subset_moments(reference, theirs), ddof)
            for ours, theirs in halves
        ]
    )
    return float((1.0 + reach) * whole - reach * mean)


def frechet_infinity_influence(
    generated: Sequence[Features], reference: Sequence[Features], *, ddof: int = 1, seed: int = 0
) -> Influence:
    """Return each clip's first-order pull on `frechet_infinity` of the same seed; sums to zero a side.

    Raises:
        UnscorableError: as `frechet_infinity`.
    """
    halves, reach = _halves(len(generated), len(reference), seed)
    pulls = [(1.0 + reach) * side for side in frechet_influence(generated, reference, ddof=ddof)]
    for chosen in halves:
        ours, theirs = _subset_moments(generated, chosen[0]), _subset_moments(reference, chosen[1])
        half = _influence(_subset(generated, chosen[0]), _subset(reference, chosen[1]), ours, theirs, ddof)
        for side, indices, own in zip(pulls, chosen, half, strict=True):
            side[indices] -= reach * own * (len(side) / len(indices)) / len(halves)
    return Influence(*pulls)


def _halves(generated: int, reference: int, seed: int) -> tuple[list[tuple[NDArray[np.intp], NDArray[np.intp]]], float]:
    """Return pairs of random halves of both sides, and how far beyond the whole the line through both must go.

    The reach is 1 where halves are exact: infinity lies as far from 1/N as 1/N from 2/N.
    """
    if min(generated, reference) < 2:
        raise UnscorableError(
            "too_few_clips",
            f"extrapolating to infinitely many clips needs halves of both sides, so at least 2 clips each; "
            f"given {generated} generated and {reference} reference clips.",
        )
    # A generated clip and its counterpart must fall into the same half: what they share cancels in the whole, and would
    # pass for bias in halves that part them. Sets of one length are paired by position; others by eighths of their
    # length.
    strata = generated if generated == reference else min(generated, reference, 8)
    stratum = [np.arange(clips) * strata // clips for clips in (generated, reference)]
    rng = np.random.default_rng(seed)
    halves: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    for _ in range(_SPLITS // 2):
        for half in np.array_split(rng.permutation(strata), 2):
            ours, theirs = (np.flatnonzero(np.isin(each, half)) for each in stratum)
            halves.append((ours, theirs))
    rate = 1 / generated + 1 / reference
    half_rate = float(np.mean([1 / len(ours) + 1 / len(theirs) for ours, theirs in halves]))
    return halves, rate / (half_rate - rate)
