"""Tests of paired differences, and what a run of this size can find at all.

The unit is a scenario: two methods answered the same one, so what makes it hard for both cancels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import nctdtr, stdtrit

from lt_eval.stats.intervals import Vector

if TYPE_CHECKING:
    from collections.abc import Sequence

EXACT_UP_TO = 16
"""Differences other than 0 up to which every pattern of signs is counted: 65,536 of them."""

_DRAWS_AT_ONCE = 2048


def sign_flip_p(differences: Sequence[float] | Vector, *, seed: int = 0, draws: int = 20_000) -> float | None:
    """Return the two-sided p-value of the sign-flip permutation test (Fisher 1935; Good 2005, ch. 3) of mean 0.

    Were the methods alike, each scenario's difference would be as likely with the other sign. The p-value is the share
    of sign patterns whose sum is at least as far from 0: of all patterns where at most EXACT_UP_TO differences are not
    0, else of random ones and the one seen (Phipson and Smyth 2010), so that it is never 0.

    Args:
        differences: one a scenario, repeats averaged; finite.
        seed: of the random patterns.
        draws: number of random patterns.

    Returns:
        0..1; 1 where all differences are 0, None without any difference.

    Raises:
        ValueError: a difference that is not finite.
    """
    given = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(given).all():
        raise ValueError("a permutation test needs finite differences: leave scenarios without a pair out.")
    if not len(given):
        return None
    moving = given[given != 0]
    if not len(moving):
        return 1.0
    # Sums of one size must tie although their terms were added in another order.
    reach = abs(float(moving.sum())) * (1 - 1e-12) - 1e-12 * float(np.abs(moving).sum())
    if len(moving) <= EXACT_UP_TO:
        patterns = np.arange(2 ** len(moving))[:, None] >> np.arange(len(moving)) & 1
        return float((np.abs((1.0 - 2.0 * patterns) @ moving) >= reach).mean())
    rng = np.random.default_rng(seed)
    far = 0
    for start in range(0, draws, _DRAWS_AT_ONCE):
        size = min(_DRAWS_AT_ONCE, draws - start)
        signs = 1.0 - 2.0 * rng.integers(0, 2, (size, len(moving)), dtype=np.int8)
        far += int((np.abs(signs @ moving) >= reach).sum())
    return (far + 1) / (draws + 1)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values adjusted for their number (Holm 1979): together, one false alarm at most at the level asked for.

    Args:
        p_values: 0..1; None is no test and does not count.
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for place, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - place)))
        adjusted[index] = largest
    return adjusted


def power_of_difference(difference: float, deviation: float, n: int, *, level: float = 0.95) -> float:
    """Return the probability that a paired test finds a true mean difference (Student's test, noncentral t).

    Args:
        difference: the true mean difference.
        deviation: standard deviation of the differences over scenarios, more than 0.
        n: number of scenarios, at least 2.
        level: 1 less the test's level.

    Raises:
        ValueError: fewer than 2 scenarios, or no deviation.
    """
    if n < 2 or not deviation > 0:
        raise ValueError(f"power needs 2 scenarios and a deviation over 0; given n={n}, deviation={deviation}.")
    freedom, away = n - 1, abs(difference) / deviation * math.sqrt(n)
    critical = float(stdtrit(freedom, (1 + level) / 2))
    return float(1 - nctdtr(freedom, away, critical) + nctdtr(freedom, away, -critical))


def detectable_difference(
    deviation: float, n: int, *, power: float = 0.8, level: float = 0.95, comparisons: int = 1
) -> float | None:
    """Return the smallest true mean difference that a paired test finds with this power.

    Args:
        deviation: standard deviation of the differences over scenarios.
        n: number of scenarios.
        power: probability of finding it.
        level: 1 less the test's level.
        comparisons: tests that share the level (Bonferroni, the strictest step of Holm's).

    Returns:
        The difference, in the scores' unit; None where there are fewer than 2 scenarios or no deviation.
    """
    if n < 2 or not deviation > 0:
        return None
    strict = 1 - (1 - level) / comparisons
    low, high = 0.0, deviation
    while power_of_difference(high, deviation, n, level=strict) < power:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        if power_of_difference(middle, deviation, n, level=strict) < power:
            low = middle
        else:
            high = middle
    return high
