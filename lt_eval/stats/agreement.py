"""How far scores can be trusted: agreement of repeats or judges, nine dimensions or one, bias, where variance lies.

Shapes: D dimensions, M methods, S scenarios, K repeats, R raters, U units; NaN is a missing score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lt_eval.stats.intervals import Interval, Vector
from lt_eval.stats.pooled import Samples, Scores, sample_means

Array = NDArray[np.float64]
Measurement = Literal["nominal", "ordinal", "interval"]

_FEWEST_PAIRS = 3


def krippendorff_alpha(ratings: Array, *, measurement: Measurement = "ordinal") -> float | None:
    """Return Krippendorff's alpha: 1 full agreement, 0 what chance gives (Krippendorff 2004, ch. 11).

    Args:
        ratings: float64 [R, U], raters (or repeats) by units; units of fewer than two ratings do not count.
        measurement: how far apart two ratings are: by ranks between them, by value, or only whether they differ.

    Returns:
        Alpha; None where no unit has two ratings, or where all ratings are equal, so that chance agrees fully too.
    """
    seen = np.isfinite(ratings)
    pairable = seen & (seen.sum(0) > 1)
    if not pairable.any():
        return None
    values, level_of = np.unique(ratings[pairable], return_inverse=True)
    if len(values) < 2:
        return None
    counts = np.zeros((ratings.shape[1], len(values)))  # [U, V]
    np.add.at(counts, (np.nonzero(pairable)[1], level_of), 1.0)
    counts = counts[counts.sum(1) > 1]
    raters = counts.sum(1, keepdims=True)
    coincidences = (counts / (raters - 1)).T @ counts - np.diag((counts / (raters - 1)).sum(0))
    marginal = coincidences.sum(1)
    n = marginal.sum()
    expected = (np.outer(marginal, marginal) - np.diag(marginal)) / (n - 1)
    distance = _distances(values, marginal, measurement)
    return float(1 - (coincidences * distance).sum() / (expected * distance).sum())


def _distances(values: Vector, marginal: Vector, measurement: Measurement) -> Array:
    if measurement == "nominal":
        return 1.0 - np.eye(len(values))
    if measurement == "interval":
        return np.asarray((values[:, None] - values) ** 2)
    place = np.cumsum(marginal) - marginal / 2
    return np.asarray((place[:, None] - place) ** 2)


def rank_correlation(one: Vector, other: Vector) -> float | None:
    """Return Spearman's correlation over the pairs without NaN; None below three pairs or without spread."""
    seen = np.isfinite(one) & np.isfinite(other)
    if seen.sum() < _FEWEST_PAIRS:
        return None
    return _correlation(_midranks(one[seen]), _midranks(other[seen]))


def _midranks(values: Vector) -> Vector:
    _, place, counts = np.unique(values.round(9), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2.0)[place]


def _correlation(one: Vector, other: Vector) -> float | None:
    a, b = one - one.mean(), other - other.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread > 1e-12 else None


@dataclass(frozen=True)
class Correlations:
    """Whether the dimensions are different things.

    Attributes:
        matrix: Spearman's correlation of each pair [D][D]; None where there is none.
        first_share: the first principal component's share of the variance; 1/D where all are independent, 1 where they
            are one. None where a correlation is missing.
        n: conversations.
    """

    matrix: tuple[tuple[float | None, ...], ...]
    first_share: float | None
    n: int


def dimension_correlations(samples: Array, *, within: bool = True) -> Correlations:
    """Return the rank correlations of dimensions over conversations.

    Args:
        samples: float64 [D, M, S].
        within: take each method's mean off first; a method that is better in everything would make all dimensions
            look alike.
    """
    centred = samples - _method_means(samples) if within else samples
    flat = centred.reshape(len(samples), -1)  # [D, M * S]
    pairs = [[rank_correlation(one, other) for other in flat] for one in flat]
    share = None
    if pairs and all(value is not None for row in pairs for value in row):
        share = float(np.linalg.eigvalsh(np.array(pairs, dtype=np.float64))[-1]) / len(pairs)
    return Correlations(tuple(map(tuple, pairs)), share, int(np.isfinite(flat).all(0).sum()))


def _method_means(samples: Array) -> Array:
    seen = np.isfinite(samples)
    return np.asarray(np.where(seen, samples, 0.0).sum(-1, keepdims=True) / np.maximum(seen.sum(-1, keepdims=True), 1))


@dataclass(frozen=True)
class LengthBias:
    """How scores go with the length of the answers: within methods, and with methods thrown together."""

    within: Interval | None
    overall: float | None
    n: int


def length_bias(samples: Samples, lengths: Samples, *, seed: int = 0, draws: int = 2000) -> LengthBias:
    """Return Spearman's correlation of scores with lengths (words, seconds) of the same conversations.

    Within methods, each method's means are taken off both first: there longer answers of the same system score higher
    or lower. The interval redraws scenarios and keeps the ranks.

    Args:
        samples: float64 [M, S], scores, repeats averaged.
        lengths: float64 [M, S].
        seed: of the redraws.
        draws: number of redraws.
    """
    seen = np.isfinite(samples) & np.isfinite(lengths)
    n = int(seen.sum())
    overall = rank_correlation(samples[seen], lengths[seen])
    if n < _FEWEST_PAIRS:
        return LengthBias(None, overall, n)
    ranked = np.zeros((2, *samples.shape))
    for side, values in enumerate((samples, lengths)):
        masked = np.where(seen, values, np.nan)
        ranked[side][seen] = _midranks((masked - _method_means(masked))[seen])
    value = _correlation(ranked[0][seen], ranked[1][seen])
    if value is None:
        return LengthBias(None, overall, n)
    ranked, seen = ranked[:, :, seen.any(0)], seen[:, seen.any(0)]  # a redraw of scenarios without a pair is none
    scenarios = seen.shape[1]
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(scenarios, np.full(scenarios, 1 / scenarios), size=draws).astype(np.float64)
    drawn = _weighted_correlations(ranked[0], ranked[1], seen.astype(np.float64), weights)
    drawn = drawn[np.isfinite(drawn)]
    if scenarios < 2 or not len(drawn):
        return LengthBias(Interval(value, None, None), overall, n)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return LengthBias(Interval(value, float(low), float(high)), overall, n)


def _weighted_correlations(one: Samples, other: Samples, seen: Samples, weights: Array) -> Vector:
    """Return Pearson's correlation of each redraw; weights [draws, S]."""
    a, b = (np.where(seen > 0, side - side[seen > 0].mean(), 0.0) for side in (one, other))
    total = weights @ seen.sum(0)
    mean_a, mean_b = weights @ a.sum(0) / total, weights @ b.sum(0) / total
    square_a = weights @ (a * a).sum(0) / total - mean_a**2
    square_b = weights @ (b * b).sum(0) / total - mean_b**2
    spread = np.sqrt(np.maximum(square_a * square_b, 0.0))
    covariance = weights @ (a * b).sum(0) / total - mean_a * mean_b
    return np.where(spread > 1e-12, covariance / np.where(spread > 1e-12, spread, 1.0), np.nan)


@dataclass(frozen=True)
class VarianceSplit:
    """Variance components of one dimension's scores, each at least 0, in squared score units.

    Attributes:
        scenario: some scenarios are harder for all.
        method: some methods are better on all.
        interaction: some methods are better on some scenarios; holds the repeats too where there is only one.
        repeat: the judge asked again; None with one repeat.
        n: scenarios with every score.
        one_call_is_enough: the repeats' variance is under 5 % of the scenarios'; None where it cannot be known.
    """

    scenario: float
    method: float
    interaction: float
    repeat: float | None
    n: int
    one_call_is_enough: bool | None


def variance_split(scores: Scores) -> VarianceSplit | None:
    """Return the variance components of a crossed design, methods x scenarios x repeats (Searle et al. 1992, ch. 4).

    Estimated from mean squares, negative ones set to 0, on the scenarios where every method has every repeat.

    Args:
        scores: float64 [M, S, K].

    Returns:
        The components; None with fewer than two methods that have scores or two whole scenarios.
    """
    scores = scores[np.isfinite(scores).any((1, 2))]
    whole = scores[:, np.isfinite(scores).all((0, 2))] if len(scores) else scores
    methods, scenarios, repeats = whole.shape
    if methods < 2 or scenarios < 2 or not repeats:
        return None
    cells = sample_means(whole)  # [M, S]
    mean, by_method, by_scenario = cells.mean(), cells.mean(1), cells.mean(0)
    square_m = scenarios * repeats * ((by_method - mean) ** 2).sum() / (methods - 1)
    square_s = methods * repeats * ((by_scenario - mean) ** 2).sum() / (scenarios - 1)
    rest = cells - by_method[:, None] - by_scenario + mean
    square_ms = repeats * (rest**2).sum() / ((methods - 1) * (scenarios - 1))
    repeat = None
    if repeats > 1:
        repeat = float(((whole - cells[..., None]) ** 2).sum() / (methods * scenarios * (repeats - 1)))
    scenario = max(0.0, float(square_s - square_ms) / (methods * repeats))
    return VarianceSplit(
        scenario=scenario,
        method=max(0.0, float(square_m - square_ms) / (scenarios * repeats)),
        interaction=max(0.0, float(square_ms - (repeat or 0.0)) / repeats),
        repeat=repeat,
        n=scenarios,
        one_call_is_enough=None if repeat is None else repeat < 0.05 * scenario,
    )
