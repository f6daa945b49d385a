"""Pooled percentiles: a judged dimension's scores against the scores of all methods together.

LiveTalk, arXiv:2512.23576, section 5.3: for each metric, one pool of the scores of all methods on all samples,
z = (x - mu) / sigma, each z to its percentile 0..100, the mean of these a method. Which percentile is not said; the
mean of 100 * Phi(z) is the literal reading, and the only one that we know to be consistent with all of Table 2.

The result is relative to the pool: another method in it moves every percentile, and can turn the order of two others.
So raw means belong beside it, or a frozen pool (`pools`) under it. Intervals redraw scenarios, all methods and repeats
of one together, and recompute the pool each time; with methods taken as independent and the pool as fixed they would be
half as wide again as they should.

Shapes: M methods, S scenarios, K repeats; NaN is a missing score, left out and never replaced.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from lt_eval.stats.intervals import Interval, Vector

Scores = NDArray[np.float64]
"""float64 [M, S, K]"""

Samples = NDArray[np.float64]
"""float64 [M, S]: repeats averaged."""

Kind = Literal["normal-cdf", "empirical-midrank"]

_DRAWS_AT_ONCE = 256


class Pool(NamedTuple):
    """Mean and standard deviation (dividing by n) of the scores that others are compared with."""

    mean: float
    deviation: float
    n: int

    @property
    def degenerate(self) -> bool:
        """Whether all scores are equal: every z is then 0 and every percentile 50."""
        return self.deviation <= _negligible(self.mean)


class Rank(NamedTuple):
    """A method's rank, 1 the best: bounds of its interval, and the probability of being first."""

    low: int
    high: int
    first: float


@dataclass(frozen=True)
class Pooled:
    """Percentiles of one dimension.

    Attributes:
        percentiles: one a method; None without a score, or without a pool to be compared with.
        n: scenarios that went into each.
        total: scenarios there were.
        pool: what they were compared with; None where there was nothing to compare.
        drawn: float64 [draws, M], the percentiles of redrawn scenarios; NaN where there is none.
        level: of the intervals.
    """

    percentiles: tuple[Interval | None, ...]
    n: tuple[int, ...]
    total: int
    pool: Pool | None
    drawn: NDArray[np.float64] = field(repr=False, compare=False)
    level: float = 0.95

    @property
    def degenerate(self) -> bool:
        """Whether the pool has no spread, so that 50 says nothing."""
        return self.pool is not None and self.pool.degenerate


def sample_means(scores: Scores) -> Samples:
    """Return the mean over the repeats that have a score; NaN where none has. Repeats must not pass for samples.

    Args:
        scores: float64 [M, S, K].

    Returns:
        float64 [M, S].

    Raises:
        ValueError: not three axes, or infinite scores.
    """
    if scores.ndim != 3 or np.isinf(scores).any():
        raise ValueError(
            f"scores must be finite or NaN, [methods, scenarios, repeats]; given shape {scores.shape}"
            f"{' with infinities' if np.isinf(scores).any() else ''}."
        )
    seen = np.isfinite(scores)
    sums = np.where(seen, scores, 0.0).sum(-1)
    return np.where(seen.any(-1), sums / np.maximum(seen.sum(-1), 1), np.nan)


def intersection(samples: Samples) -> NDArray[np.bool_]:
    """Return which scenarios [S] every method has a score for; a method without any score is not asked."""
    seen = np.isfinite(samples)
    asked = seen[seen.any(1)]
    return np.asarray(asked.all(0)) if len(asked) else np.zeros(samples.shape[1], dtype=np.bool_)


def pooled_percentiles(
    scores: Scores,
    *,
    kind: Kind = "normal-cdf",
    pool: Pool | None = None,
    intersect: bool = True,
    seed: int = 0,
    draws: int = 2000,
    level: float = 0.95,
) -> Pooled:
    """Return each method's percentile with its interval by bootstrap over scenarios.

    Args:
        scores: float64 [M, S, K], the higher the better; NaN is missing.
        kind: mean of 100 * Phi(z), or the mean rank (ties in the middle) among the pooled scores, whose mean over
            methods is always 50.
        pool: a frozen one to compare with instead of the methods' own; it is not redrawn.
        intersect: compare on the scenarios that every method has. Otherwise each method has the same weight in the
            pool, however many scenarios it has, and methods are compared on different ones.
        seed: of the redraws.
        draws: number of redraws.
        level: of the intervals.

    Raises:
        ValueError: shape or values as `sample_means` says; a frozen pool with mid-ranks, which it does not hold.
    """
    if pool is not None and kind == "empirical-midrank":
        raise ValueError("a frozen pool holds mean and deviation, from which no rank follows: use kind 'normal-cdf'.")
    samples = sample_means(scores)
    seen = np.isfinite(samples)
    if intersect:
        seen = seen & intersection(samples)
    n = tuple(int(count) for count in seen.sum(1))
    methods = np.flatnonzero(seen.any(1))
    nothing = np.full((0, len(samples)), np.nan)
    if len(methods) < (2 if pool is None else 1):
        return Pooled((None,) * len(samples), n, samples.shape[1], pool, nothing, level)
    used = np.flatnonzero(seen.any(0))
    part = _Part(np.where(seen, samples, 0.0)[np.ix_(methods, used)], seen[np.ix_(methods, used)], kind, pool)
    values = part.percentiles(np.ones((1, len(used))))[0]
    drawn = np.full((draws if len(used) > 1 else 0, len(samples)), np.nan)
    drawn[:, methods] = _redrawn(part, len(used), np.random.default_rng(seed), len(drawn))
    found: list[Interval | None] = [None] * len(samples)
    for method, value in zip(methods, values, strict=True):
        found[method] = _interval(float(value), drawn[:, method], level)
    return Pooled(tuple(found), n, samples.shape[1], pool or part.pool, drawn, level)


def difference(pooled: Pooled, method: int, other: int) -> Interval | None:
    """Return method minus other in percentile points, both of the same redraws; None where one has no percentile."""
    one, two = pooled.percentiles[method], pooled.percentiles[other]
    if one is None or two is None:
        return None
    return _interval(one.value - two.value, pooled.drawn[:, method] - pooled.drawn[:, other], pooled.level)


def ranks(pooled: Pooled) -> tuple[Rank | None, ...]:
    """Return each method's rank interval over the redraws, and how often it is first; ties share the first place."""
    known = [i for i, value in enumerate(pooled.percentiles) if value is not None]
    found: list[Rank | None] = [None] * len(pooled.percentiles)
    drawn = pooled.drawn[:, known]
    drawn = drawn[np.isfinite(drawn).all(1)].round(9)
    if len(known) < 2 or not len(drawn):
        return tuple(found)
    above = (drawn[:, None, :] > drawn[:, :, None]).sum(-1)  # [draws, M]
    best = above == 0
    first = (best / best.sum(1, keepdims=True)).mean(0)
    tails = [(1 - pooled.level) / 2, (1 + pooled.level) / 2]
    low, high = np.quantile(above + 1, tails, axis=0, method="nearest")
    for place, method in enumerate(known):
        found[method] = Rank(int(low[place]), int(high[place]), float(first[place]))
    return tuple(found)


class _Part:
    """The methods and scenarios that have scores; `weights` [draws, S] say how often each scenario was drawn."""

    def __init__(self, samples: Samples, seen: NDArray[np.bool_], kind: Kind, pool: Pool | None) -> None:
        self.frozen = pool
        self.kind = kind
        self.seen = seen.astype(np.float64)
        # Centring keeps the squares of the deviation from cancelling where the mean is large against the spread.
        self.centre = float(samples[seen].mean()) if pool is None else pool.mean
        self.samples = np.where(seen, samples - self.centre, 0.0)
        self.levels, self.level_of = np.unique(self.samples.round(9), return_inverse=True)
        self.level_of = self.level_of.reshape(samples.shape)

    @property
    def pool(self) -> Pool:
        mean, deviation = self._moments(np.ones((1, self.seen.shape[1])))
        return Pool(float(mean[0]) + self.centre, float(deviation[0]), int(self.seen.sum()))

    def percentiles(self, weights: Vector) -> NDArray[np.float64]:
        """Return [draws, M]; NaN where no scenario of the method was drawn."""
        each = self._normal(weights) if self.kind == "normal-cdf" else self._midrank(weights)  # [draws, M, S]
        sums = np.einsum("bs,ms,bms->bm", weights, self.seen, each, optimize=True)
        return np.asarray(sums / self._counts(weights))

    def _counts(self, weights: Vector) -> NDArray[np.float64]:
        counts = weights @ self.seen.T
        return np.where(counts > 0, counts, np.nan)

    def _moments(self, weights: Vector) -> tuple[Vector, Vector]:
        """Return the pool's mean (less the centre) and deviation [draws], each method with the same weight."""
        counts = self._counts(weights)
        means = np.nanmean(weights @ self.samples.T / counts, axis=1)
        squares = np.nanmean(weights @ (self.samples**2).T / counts, axis=1)
        return means, np.sqrt(np.maximum(squares - means**2, 0.0))

    def _normal(self, weights: Vector) -> NDArray[np.float64]:
        if self.frozen is not None:
            mean, deviation = np.zeros(len(weights)), np.full(len(weights), self.frozen.deviation)
        else:
            mean, deviation = self._moments(weights)
        spread = deviation > _negligible(self.centre)
        scale = np.where(spread, 1.0 / np.where(spread, deviation, 1.0), 0.0)
        return np.asarray(100.0 * ndtr((self.samples - mean[:, None, None]) * scale[:, None, None]))

    def _midrank(self, weights: Vector) -> NDArray[np.float64]:
        counts = self._counts(weights)
        mass = np.zeros((len(weights), len(self.levels)))
        for method, level_of in enumerate(self.level_of):
            at_level = np.zeros((self.seen.shape[1], len(self.levels)))
            at_level[np.arange(len(level_of)), level_of] = self.seen[method]
            mass += np.nan_to_num(weights @ at_level / counts[:, [method]])
        mass /= np.isfinite(counts).sum(1, keepdims=True)
        below = np.cumsum(mass, 1) - mass / 2
        return np.asarray(100.0 * below[:, self.level_of])


def _redrawn(part: _Part, scenarios: int, rng: np.random.Generator, draws: int) -> NDArray[np.float64]:
    found = [np.empty((0, part.seen.shape[0]))]
    for start in range(0, draws, _DRAWS_AT_ONCE):
        size = min(_DRAWS_AT_ONCE, draws - start)
        weights = rng.multinomial(scenarios, np.full(scenarios, 1 / scenarios), size=size).astype(np.float64)
        found.append(part.percentiles(weights))
    return np.concatenate(found)


def _interval(value: float, drawn: Vector, level: float) -> Interval:
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Interval(value, None, None)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def _negligible(mean: float) -> float:
    """A deviation that is rounding of equal scores and no spread."""
    return 1e-9 * max(1.0, math.fabs(mean))
