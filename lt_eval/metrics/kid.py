"""Kernel distance between two sets of clips: KID (Binkowski et al. 2018, arXiv 1801.01401).

    KID = mean k(x, x') + mean k(y, y') - 2 mean k(x, y),   k(x, y) = (x.y / d + 1)^3

over all rows of both sets, pairs of a row with itself left out: the unbiased squared maximum mean discrepancy, as
torch-fidelity computes it with one subset that holds every row. It is unbiased for independent rows only. Frames of
one clip resemble each other, so their mutual pairs raise it; `kernel_floor` says by how much.

Sums run over blocks of float64 products. Cost grows with the square of the rows, so a side of more than `max_rows`
is thinned to about that many, each clip keeping the same share of evenly spaced rows.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lt_eval.errors import UnscorableError
from lt_eval.interfaces import Influence
from lt_eval.metrics.clip_sets import Memo, check_widths, checked_clips

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lt_eval.records import Features

Matrix: TypeAlias = NDArray[np.float64]

MAX_ROWS = 12_500
"""100 clips of 125 frames: every frame of the usual comparison counts."""

_BLOCK_ROWS = 1024


class _Thinned(NamedTuple):
    """The rows [N, D] of all clips, one clip after the other, and how many rows each has."""

    values: NDArray[np.floating[Any]]
    counts: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class _Sums:
    """Kernel summed over the row pairs of each pair of clips.

    Attributes:
        sums: float64 [n1, n2].
        pairs: float64 [n1, n2], how many row pairs each sum has.
        rows: int [n1], rows of each clip of the first set.
    """

    sums: Matrix
    pairs: Matrix
    rows: NDArray[np.intp]

    @property
    def mean(self) -> float:
        return float(self.sums.sum() / self.pairs.sum())

    def pulls(self, axis: int) -> Matrix:
        """Return dmean/dw of each clip along one axis, the other side's weights held."""
        excess = self.sums - self.mean * self.pairs
        return np.asarray(excess.sum(axis=1 - axis) / self.pairs.sum())


_WITHIN: defaultdict[int, Memo[_Sums]] = defaultdict(Memo)
_BETWEEN: defaultdict[int, Memo[_Sums]] = defaultdict(Memo)


def kernel_distance(generated: Sequence[Features], reference: Sequence[Features], *, max_rows: int = MAX_ROWS) -> float:
    """Return the unbiased kernel distance between all rows of two sets of clips; may be slightly negative.

    Args:
        generated: float32 [n_i, D] a clip.
        reference: the same of the reference clips.
        max_rows: a side with more rows is thinned evenly to about this many.

    Raises:
        UnscorableError: a side has no clip, fewer than two rows, unlike widths, or values that are not finite.
    """
    ours, theirs, between = _all_sums(generated, reference, max_rows)
    return ours.mean + theirs.mean - 2.0 * between.mean


def kernel_influence(
    generated: Sequence[Features], reference: Sequence[Features], *, max_rows: int = MAX_ROWS
) -> Influence:
    """Return each clip's first-order pull on `kernel_distance`: n * dKID/dw, all clips weighing 1; sums to zero a side.

    Raises:
        UnscorableError: as `kernel_distance`.
    """
    ours, theirs, between = _all_sums(generated, reference, max_rows)
    # A clip stands on both sides of the sums within its own set, hence the first factor of two.
    return Influence(
        len(generated) * (2.0 * ours.pulls(0) - 2.0 * between.pulls(0)),
        len(reference) * (2.0 * theirs.pulls(0) - 2.0 * between.pulls(1)),
    )


def kernel_floor(reference: Sequence[Features], clips: int, *, max_rows: int = MAX_ROWS) -> float:
    """Return the expected kernel distance between `clips` clips of the reference's own distribution and the reference.

    Exact up to the estimate of two means: with p the share of row pairs that lie within one clip, each set's own
    term is p times the mean kernel within clips plus 1 - p times that between clips, and the cross term is the
    latter alone. The new clips are taken to be as long as the reference's. Zero where every clip has one row.

    Raises:
        UnscorableError: fewer than 2 reference clips or 1 new clip, or as `kernel_distance`.
    """
    if clips < 1 or len(reference) < 2:
        raise UnscorableError(
            "too_few_clips",
            "telling pairs within a clip from pairs between clips needs at least 2 reference clips and 1 generated "
            f"clip; given {len(reference)} and {clips}.",
        )
    sums = _within(reference, max_rows)
    own_pairs, own_sum = np.trace(sums.pairs), np.trace(sums.sums)
    if own_pairs == 0:
        return 0.0
    excess = own_sum / own_pairs - (sums.sums.sum() - own_sum) / (sums.pairs.sum() - own_pairs)
    rows = sums.rows.mean() * clips
    share_of_new = own_pairs / len(reference) * clips / (rows * (rows - 1))
    return float(excess * (share_of_new + own_pairs / sums.pairs.sum()))


def _all_sums(
    generated: Sequence[Features], reference: Sequence[Features], max_rows: int
) -> tuple[_Sums, _Sums, _Sums]:
    between = _BETWEEN[max_rows].get(
        lambda: _kernel_sums(_thinned(generated, max_rows), _thinned(reference, max_rows)), reference, generated
    )
    return _within(generated, max_rows), _within(reference, max_rows), between


def _within(clips: Sequence[Features], max_rows: int) -> _Sums:
    return _WITHIN[max_rows].get(lambda: _kernel_sums(_thinned(clips, max_rows), None), clips)


def _thinned(clips: Sequence[Features], max_rows: int) -> _Thinned:
    """Return the rows of all clips, each with the same share of its own, so that they are about `max_rows` in all.

    Clips are read twice, one at a time, into one array: at the limit and 2048 wide it holds 100 MiB, whatever the
    number of clips.
    """
    lengths, dtypes, width = [], set(), 0
    for clip in checked_clips(clips):
        lengths.append(len(clip))
        dtypes.add(clip.dtype)
        width = clip.shape[1]
    rows = sum(lengths)
    if rows < 2:
        raise UnscorableError(
            "too_few_rows",
            f"a kernel distance compares rows with other rows of their set, so it needs at least 2; the clips gave "
            f"{rows}. Score more or longer clips.",
        )
    chosen = [_even_rows(length, min(max_rows / rows, 1.0)) for length in lengths]
    counts = np.array([len(indices) for indices in chosen])
    values = np.empty((counts.sum(), width), np.result_type(*dtypes))
    for clip, indices, end in zip(clips, chosen, counts.cumsum(), strict=True):
        values[end - len(indices) : end] = clip[indices]
    return _Thinned(values, counts)


def _even_rows(rows: int, share: float) -> NDArray[np.intp]:
    kept = min(max(round(rows * share), 1), rows)
    return np.asarray((np.arange(kept) + 0.5) * rows / max(kept, 1), dtype=np.intp)


def _kernel_sums(first: _Thinned, second: _Thinned | None) -> _Sums:
    """Sum the kernel over the row pairs of each pair of clips; without a second set, of the first with itself."""
    left, rows = first
    right, columns = first if second is None else second
    check_widths(left.shape[1], right.shape[1])
    sums = np.zeros((len(rows), len(columns)))
    left_clip, right_clip = np.repeat(np.arange(len(rows)), rows), np.repeat(np.arange(len(columns)), columns)
    for top in range(0, len(left), _BLOCK_ROWS):
        here = slice(top, top + _BLOCK_ROWS)
        block = left[here].astype(np.float64)
        for start in range(top if second is None else 0, len(right), _BLOCK_ROWS):
            there = slice(start, start + _BLOCK_ROWS)
            similarity = block @ right[there].astype(np.float64).T / left.shape[1] + 1.0
            kernel = similarity * similarity * similarity  # far faster than a power
            if second is None and start == top:
                np.fill_diagonal(kernel, 0.0)
            part, at = _sum_by_clip(kernel, left_clip[here], right_clip[there])
            sums[at] += part
            if second is None and start > top:
                sums.T[at] += part
    pairs = np.outer(rows, columns).astype(np.float64)
    if second is None:
        pairs[np.diag_indices(len(rows))] -= rows
    return _Sums(sums, pairs, rows)


def _sum_by_clip(
    kernel: Matrix, row_clip: NDArray[np.intp], column_clip: NDArray[np.intp]
) -> tuple[Matrix, tuple[NDArray[np.intp], ...]]:
    """Return sums over each pair of clips in a block, and where they belong."""
    rows, row_starts = np.unique(row_clip, return_index=True)
    columns, column_starts = np.unique(column_clip, return_index=True)
    part = np.add.reduceat(np.add.reduceat(kernel, column_starts, axis=1), row_starts, axis=0)
    return part, np.ix_(rows, columns)
