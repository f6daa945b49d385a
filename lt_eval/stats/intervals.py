"""Intervals and differences, always by clip or by dialogue, never by frame. Pure numpy and scipy; seeds are passed in.

Clip metrics get a studentised bootstrap (`mean_interval`, `paired_difference`), shares of clips score intervals
(`share_interval`, `share_difference`). Distances between sets get the
infinitesimal jackknife (`influence_interval`, `influence_difference`): a plain bootstrap of a Frechet distance is
biased upward, since redrawn sets hold repeats and so a smaller covariance rank, and costs one distance a draw. Its
coverage, and where it falls short, is tabled in benchmarks/coverage.md.

Every interval covers the expected value of the statistic at the number of clips at hand; the bias that a distance
itself has at that number is the business of its floor. One clip has no interval: the bounds are None, never the
value twice.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from lt_eval.errors import UnscorableError
from lt_eval.interfaces import Influence

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from lt_eval.records import Features

Vector = NDArray[np.float64]

_DRAWS_AT_ONCE = 256
_FEWEST_REDRAWN = 8


class Interval(NamedTuple):
    """A value with the bounds of its interval; None where there are too few clips for one."""

    value: float
    low: float | None
    high: float | None


def mean_interval(
    values: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    seed: int = 0,
    draws: int = 5000,
    level: float = 0.95,
) -> Interval:
    """Return the mean of all values and its interval by studentised bootstrap over clips, or over clusters of clips.

    In simulations (normal, uniform, skewed, 1..5 ratings) the studentised bootstrap (Efron and Tibshirani 1993, ch.
    12.5) holds its level best from 8 clips on; BCa is far too narrow at 8. Below 8 there are too few distinct
    redraws, and Student's interval is given. Values that are all equal give an interval of no width: no spread was
    seen.

    Args:
        values: one a clip, finite.
        clusters: an id a value; values of one id (turns of one dialogue) are redrawn together.
        seed: of the redraws.
        draws: number of redraws.
        level: share of such intervals that hold the expected mean.

    Raises:
        ValueError: no value, a value that is not finite, or clusters that are not one a value.
    """
    sums, counts = _cluster_sums(_finite(values), clusters)
    mean, error = (float(each[0]) for each in _means_and_errors(np.ones((1, len(sums))), sums, counts))
    if len(sums) < 2:
        return Interval(mean, None, None)
    high, low = _pivot_bounds(sums, counts, mean, np.random.default_rng(seed), draws, level) * error
    return Interval(mean, mean - float(high), mean - float(low))


def _finite(values: Sequence[float]) -> Vector:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.size == 0 or not np.isfinite(numbers).all():
        raise ValueError(
            f"a mean needs at least one value and finite values only, given {numbers.tolist()[:8]}: "
            "leave clips without a value out and count them in n/N."
        )
    return numbers


def _cluster_sums(numbers: Vector, clusters: Sequence[Hashable] | None) -> tuple[Vector, Vector]:
    """Return the sum and the count of the values of each cluster, clusters in order of first appearance."""
    if clusters is None:
        return numbers, np.ones_like(numbers)
    if len(clusters) != len(numbers):
        raise ValueError(f"clusters must name one id a value; given {len(clusters)} ids for {len(numbers)} values.")
    order = {cluster: index for index, cluster in enumerate(dict.fromkeys(clusters))}
    member = np.array([order[cluster] for cluster in clusters])
    return np.asarray(np.bincount(member, weights=numbers), np.float64), np.bincount(member).astype(np.float64)


def _means_and_errors(weights: Vector, sums: Vector, counts: Vector) -> tuple[Vector, Vector]:
    """Return the mean over weighted clusters, and its linearised standard error; weights [draws, clusters]."""
    clusters = len(sums)
    total = weights @ counts
    # Centring first keeps the squares below from cancelling when the mean is large against the spread.
    centre = sums.sum() / counts.sum()
    sums = sums - centre * counts
    offset = weights @ sums / total
    squares = weights @ sums**2 - 2 * offset * (weights @ (sums * counts)) + offset**2 * (weights @ counts**2)
    return centre + offset, np.sqrt(np.maximum(squares, 0.0) * clusters / max(clusters - 1, 1)) / total


def _pivot_bounds(
    sums: Vector, counts: Vector, mean: float, rng: np.random.Generator, draws: int, level: float
) -> Vector:
    """Return the upper and lower quantile of (redrawn mean - mean) / redrawn error."""
    clusters = len(sums)
    quantiles = [(1 + level) / 2, (1 - level) / 2]
    student = np.asarray(stdtrit(clusters - 1, quantiles))
    if clusters < _FEWEST_REDRAWN:
        return student
    pivots = []
    error = _means_and_errors(np.ones((1, clusters)), sums, counts)[1][0]
    for start in range(0, draws, _DRAWS_AT_ONCE):
        size = min(_DRAWS_AT_ONCE, draws - start)
        weights = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=size).astype(np.float64)
        means, errors = _means_and_errors(weights, sums, counts)
        # A redraw of equal values has no pivot; the rounding of its squares leaves some 1e-8 of an error.
        spread = errors > 1e-6 * error
        pivots.append((means[spread] - mean) / errors[spread])
    drawn = np.concatenate(pivots)
    return np.quantile(drawn, quantiles) if len(drawn) > draws / 2 else student


def paired_difference(
    values_a: Mapping[str, float],
    values_b: Mapping[str, float],
    *,
    clusters: Mapping[str, Hashable] | None = None,
    seed: int = 0,
    draws: int = 5000,
    level: float = 0.95,
) -> Interval:
    """Return the mean of a - b over the ids that both have, and its interval as `mean_interval` gives it.

    Args:
        values_a: sample id -> value of the one method.
        values_b: the same of the other.
        clusters: sample id -> dialogue id, where several samples are turns of one dialogue.
        seed: of the redraws.
        draws: number of redraws.
        level: share of such intervals that hold the expected difference.

    Raises:
        ValueError: no id in common, or a value that is not finite.
    """
    common = sorted(values_a.keys() & values_b.keys())
    if not common:
        raise ValueError("a paired difference needs sample ids that both methods have a value for; there are none.")
    differences = [values_a[sample] - values_b[sample] for sample in common]
    ids = None if clusters is None else [clusters[sample] for sample in common]
    return mean_interval(differences, clusters=ids, seed=seed, draws=draws, level=level)


def share_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """Return the share of ones among values of 0 and 1, and its score interval (Wilson 1927).

    A bootstrap of such values leaves 0..1, and has no width where all are equal.

    Args:
        values: one a clip, each 0 or 1.
        level: share of such intervals that hold the expected share.

    Raises:
        ValueError: no value, or one that is neither 0 nor 1.
    """
    ones = _binary(values)
    n, share = len(ones), float(ones.mean())
    if n < 2:
        return Interval(share, None, None)
    z = -float(ndtri((1 - level) / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Interval(share, min(max(0.0, centre - half), share), max(min(1.0, centre + half), share))


def share_difference(values_a: Mapping[str, float], values_b: Mapping[str, float], *, level: float = 0.95) -> Interval:
    """Return the difference of two shares over the ids that both have, and its interval.

    Newcombe's method 10 for paired shares (Statistics in Medicine 17, 2635, 1998): the two score intervals, joined with
    the correlation of the pairs. Where that is positive, half a pair is taken off the counts behind it.

    Args:
        values_a: sample id -> 0 or 1 of the one method.
        values_b: the same of the other.
        level: share of such intervals that hold the expected difference.

    Raises:
        ValueError: no id in common, or a value that is neither 0 nor 1.
    """
    common = sorted(values_a.keys() & values_b.keys())
    a, b = _binary([values_a[i] for i in common]), _binary([values_b[i] for i in common])
    one, other = share_interval(a.tolist(), level=level), share_interval(b.tolist(), level=level)
    difference = one.value - other.value
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Interval(difference, None, None)
    spread = float(a.std() * b.std())
    together = float(((a - a.mean()) * (b - b.mean())).mean())
    if together > 0:
        together = max(0.0, together - 1 / (2 * len(common)))
    correlation = together / spread if spread > 0 else 0.0

    def reach(mine: float, theirs: float) -> float:
        return math.sqrt(max(0.0, mine**2 - 2 * correlation * mine * theirs + theirs**2))

    below = reach(one.value - one.low, other.high - other.value)
    above = reach(one.high - one.value, other.value - other.low)
    return Interval(difference, max(-1.0, difference - below), min(1.0, difference + above))


def _binary(values: Sequence[float]) -> Vector:
    numbers = _finite(values)
    if not np.isin(numbers, (0.0, 1.0)).all():
        raise ValueError(f"a share is of values 0 and 1, given {numbers.tolist()[:8]}.")
    return numbers


def influence_interval(
    value: float,
    influence: Influence,
    *,
    generated_ids: Sequence[Hashable] | None = None,
    reference_ids: Sequence[Hashable] | None = None,
    minimum: float = -math.inf,
    level: float = 0.95,
) -> Interval:
    """Return a set metric's interval from the clips' pulls on it: infinitesimal jackknife error, Student's quantile.

    Efron 1982, ch. 6. A generated clip and the reference clip of the same id were made from one speech and one
    person, so their pulls are added before squaring; without ids all clips count as independent.

    Args:
        value: the metric.
        influence: each clip's pull, as `HasInfluence` or `jackknife_influence` gives it.
        generated_ids: an id a generated clip; equal ids (turns of one dialogue) go together.
        reference_ids: an id a reference clip.
        minimum: the least value that the metric can have.
        level: share of such intervals that hold the metric's expected value at this number of clips.
    """
    pulls, freedom = _pull_by_id(influence, generated_ids, reference_ids)
    low, high = _jackknife_bounds(value, pulls, freedom, level)
    return Interval(value, low if low is None else max(low, minimum), high)


def influence_difference(
    value_a: float,
    influence_a: Influence,
    value_b: float,
    influence_b: Influence,
    *,
    generated_ids_a: Sequence[Hashable],
    generated_ids_b: Sequence[Hashable],
    reference_ids: Sequence[Hashable],
    level: float = 0.95,
) -> Interval:
    """Return a set metric's difference a - b between two methods against one reference, and its interval.

    Pulls are subtracted id by id, so what the shared reference and the shared speech do to both cancels.

    Args:
        value_a: the metric of the one method.
        influence_a: its pulls.
        value_b: the metric of the other method.
        influence_b: its pulls.
        generated_ids_a: an id a generated clip of the one method.
        generated_ids_b: the same of the other.
        reference_ids: an id a reference clip, which both must have been compared with.
        level: share of such intervals that hold the expected difference at this number of clips.
    """
    pulls, freedom_a = _pull_by_id(influence_a, generated_ids_a, reference_ids)
    pulls_b, freedom_b = _pull_by_id(influence_b, generated_ids_b, reference_ids)
    for unit, pull in pulls_b.items():
        pulls[unit] = pulls.get(unit, 0.0) - pull
    value = value_a - value_b
    return Interval(value, *_jackknife_bounds(value, pulls, min(freedom_a, freedom_b), level))


def _pull_by_id(
    influence: Influence, generated_ids: Sequence[Hashable] | None, reference_ids: Sequence[Hashable] | None
) -> tuple[dict[Hashable, float], int]:
    """Return each independent unit's share in the metric's error, and the degrees of freedom."""
    shares: dict[Hashable, float] = {}
    freedom = []
    sides = (("generated", influence.generated, generated_ids), ("reference", influence.reference, reference_ids))
    for side, pulls, given in sides:
        ids = _ids(side, pulls.tolist(), given)
        units = len(set(ids))
        freedom.append(units - 1)
        # Pulls are deviations from a fitted value; the factor makes their mean square that of true deviations.
        scale = math.sqrt(units / max(units - 1, 1)) / max(len(pulls), 1)
        for unit, pull in zip(ids, pulls, strict=True):
            shares[unit] = shares.get(unit, 0.0) + scale * float(pull)
    return shares, min(freedom)


def _jackknife_bounds(
    value: float, shares: Mapping[Hashable, float], freedom: int, level: float
) -> tuple[float | None, float | None]:
    if freedom < 1:
        return None, None
    reach = float(stdtrit(freedom, (1 + level) / 2)) * math.sqrt(math.fsum(share**2 for share in shares.values()))
    return value - reach, value + reach


def jackknife_influence(
    distance: Callable[[Sequence[Features], Sequence[Features]], Mapping[str, float]],
    generated: Sequence[Features],
    reference: Sequence[Features],
    *,
    generated_ids: Sequence[Hashable] | None = None,
    reference_ids: Sequence[Hashable] | None = None,
) -> dict[str, Influence]:
    """Return every column's pulls of a set metric that does not know its derivative, by leaving out each clip in turn.

    Clips of one id are left out together, generated and reference: a distance jumps when a clip loses its counterpart.
    The pull of such a pair then stands with its generated clip. Costs one `distance` an id, and holds both sides in
    memory. What cannot be left out, since it is all there is of a side, has a pull of zero. Columns without a value
    once a clip is left out are not returned.

    Args:
        distance: `SetMetric.distance`.
        generated: float32 [n_i, D] a clip.
        reference: the same of the reference clips.
        generated_ids: an id a generated clip; None where no clip has a counterpart.
        reference_ids: an id a reference clip.
    """
    held = list(generated), list(reference)
    ids = _ids("generated", held[0], generated_ids), _ids("reference", held[1], reference_ids)
    whole = distance(*held)
    pulls = {column: (np.zeros(len(held[0])), np.zeros(len(held[1]))) for column in whole}
    carriers = [np.zeros(len(side), dtype=bool) for side in held]
    for unit in dict.fromkeys([*ids[0], *ids[1]]):
        member = [np.array([each == unit for each in side]) for side in ids]
        if any(each.all() for each in member):
            continue
        rest = [[clip for clip, out in zip(*pair, strict=True) if not out] for pair in zip(held, member, strict=True)]
        side = 0 if member[0].any() else 1
        carriers[side] |= member[side]
        try:
            left = distance(rest[0], rest[1])
        except UnscorableError:
            return {}
        pulls = {column: sides for column, sides in pulls.items() if column in left}
        for column, sides in pulls.items():
            sides[side][member[side]] = len(rest[side]) * (whole[column] - left[column]) / member[side].sum()
    for sides in pulls.values():
        for pull, carrier in zip(sides, carriers, strict=True):
            pull[carrier] -= pull[carrier].mean() if carrier.any() else 0.0
    return {column: Influence(*sides) for column, sides in pulls.items()}


def _ids(side: str, clips: Sequence[object], given: Sequence[Hashable] | None) -> Sequence[Hashable]:
    """Return the ids given, or such that no clip meets another, on its own side or the other one."""
    ids = [(side, index) for index in range(len(clips))] if given is None else given
    if len(ids) != len(clips):
        raise ValueError(f"{side}_ids must name one id a clip; given {len(ids)} ids for {len(clips)} clips.")
    return ids
