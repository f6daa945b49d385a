from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.special import ndtr, ndtri

from lt_eval.report import published
from lt_eval.stats import (
    Interval,
    Pool,
    Pooled,
    difference,
    pooled_percentiles,
    ranks,
    sample_means,
)

Array = NDArray[np.float64]


def scores(*methods: Sequence[float]) -> Array:
    """Return [M, S, 1]."""
    return np.array(methods, dtype=np.float64)[..., None]


def ratings(rng: np.random.Generator, means: Sequence[float], scenarios: int, spread: float = 0.8) -> Array:
    """Simulate 1..5 judgments [M, S, 1]: scenarios differ in difficulty, methods in their mean."""
    latent = np.array(means)[:, None] + rng.normal(0, 0.6, scenarios) + rng.normal(0, spread, (len(means), scenarios))
    return np.clip(np.rint(latent), 1, 5)[..., None]


def values(pooled: Pooled) -> list[float]:
    found = [p.value for p in pooled.percentiles if p is not None]
    assert len(found) == len(pooled.percentiles)
    return found


def bounds(interval: Interval | None) -> tuple[float, float]:
    assert interval is not None
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


def test_the_percentile_is_the_mean_of_phi_of_pooled_z() -> None:
    """Two methods, all scores 1 and 3: mu 2, sigma 1, so Phi(-1) and Phi(1)."""
    found = pooled_percentiles(scores([1, 1, 1, 1], [3, 3, 3, 3]))
    assert found.pool == Pool(2.0, 1.0, 8)
    assert values(found) == pytest.approx([100 * ndtr(-1), 100 * ndtr(1)])


def test_it_is_the_mean_over_samples_and_not_of_the_mean_z() -> None:
    data = scores([1, 1, 1, 5], [3, 3, 3, 3])
    mu, sigma = data.mean(), data.std()
    assert values(pooled_percentiles(data)) == pytest.approx((100 * ndtr((data[..., 0] - mu) / sigma)).mean(1))
    assert values(pooled_percentiles(data))[0] != pytest.approx(100 * ndtr((data[0].mean() - mu) / sigma), abs=1)


def test_scale_and_shift_of_the_scores_do_not_matter() -> None:
    data = ratings(np.random.default_rng(0), [2.5, 3.0, 3.6], 40)
    one, other = (pooled_percentiles(each, draws=200) for each in (data, 1000 + 7 * data))
    assert values(one) == pytest.approx(values(other))
    assert bounds(one.percentiles[1]) == pytest.approx(bounds(other.percentiles[1]))


def test_mid_ranks_average_to_fifty_and_equal_scipys_percentile_of_score() -> None:
    data = ratings(np.random.default_rng(1), [2.0, 3.0, 3.2], 50)
    found = values(pooled_percentiles(data, kind="empirical-midrank"))
    assert np.mean(found) == pytest.approx(50)
    pool = data.ravel()
    expected = [np.mean([100 * ((pool < x).mean() + (pool == x).mean() / 2) for x in one]) for one in data[..., 0]]
    assert found == pytest.approx(expected)


def test_normal_percentiles_of_skewed_scores_do_not_average_to_fifty() -> None:
    found = values(pooled_percentiles(scores([1] * 20, [1] * 20, [5] * 20)))
    assert np.mean(found) < 48
    assert found[0] == found[1]


def test_repeats_are_averaged_first_and_do_not_pass_for_samples() -> None:
    data = ratings(np.random.default_rng(2), [2.5, 3.5], 30)
    once, thrice = pooled_percentiles(data), pooled_percentiles(np.repeat(data, 3, axis=-1))
    assert thrice.percentiles == once.percentiles
    assert thrice.pool == once.pool
    assert once.pool is not None
    assert once.pool.n == 60


def test_a_missing_repeat_is_left_out_of_its_mean() -> None:
    given = np.array([[[1.0, np.nan, 4.0], [np.nan] * 3]])
    assert sample_means(given)[0, 0] == 2.5
    assert np.isnan(sample_means(given)[0, 1])
    with pytest.raises(ValueError, match="infinities"):
        sample_means(np.full((1, 2, 1), np.inf))
    with pytest.raises(ValueError, match="shape"):
        sample_means(np.zeros((3, 4)))


def test_methods_are_compared_on_the_scenarios_that_all_have() -> None:
    data = ratings(np.random.default_rng(3), [2.5, 3.0, 3.5], 30)
    holes = data.copy()
    holes[0, :5] = np.nan
    holes[2, 3:9] = np.nan
    found = pooled_percentiles(holes)
    assert found.n == (21, 21, 21)
    assert found.total == 30
    assert found.percentiles == pooled_percentiles(data[:, 9:]).percentiles


def test_a_method_without_any_score_has_no_percentile_and_costs_the_others_nothing() -> None:
    data = ratings(np.random.default_rng(3), [2.5, 3.0], 30)
    found = pooled_percentiles(np.concatenate([data, np.full((1, 30, 1), np.nan)]))
    assert found.percentiles == (*pooled_percentiles(data).percentiles, None)
    assert found.n == (30, 30, 0)
    assert difference(found, 0, 2) is None
    assert ranks(found)[2] is None


def test_without_intersection_each_method_weighs_the_same_in_the_pool() -> None:
    """A method of 2 scenarios against one of 20: mu lies midway, not at the larger one's scores."""
    data = scores([1] * 20, [3, 3, *[np.nan] * 18])
    found = pooled_percentiles(data, intersect=False, draws=100)
    assert found.n == (20, 2)
    assert found.pool == pytest.approx(Pool(2.0, 1.0, 22))
    assert values(found) == pytest.approx([100 * ndtr(-1), 100 * ndtr(1)])


def test_equal_scores_everywhere_are_fifty_and_say_so() -> None:
    found = pooled_percentiles(scores([0.1] * 9, [0.1] * 9))
    assert values(found) == [50, 50]
    assert found.degenerate
    assert bounds(found.percentiles[0]) == (50, 50)
    assert not pooled_percentiles(scores([1, 2, 3], [1, 2, 3])).degenerate


def test_one_method_alone_has_no_percentile() -> None:
    found = pooled_percentiles(scores([1, 2, 3]))
    assert found.percentiles == (None,)
    assert found.pool is None
    assert ranks(found) == (None,)
    nothing = pooled_percentiles(scores([1, np.nan], [np.nan, 2]))
    assert nothing.percentiles == (None, None)
    assert nothing.n == (0, 0)


def test_one_scenario_has_no_interval() -> None:
    found = pooled_percentiles(scores([1], [3]))
    assert found.percentiles[0] == Interval(float(100 * ndtr(-1)), None, None)


def test_a_frozen_pool_makes_one_method_comparable_and_is_not_redrawn() -> None:
    pool = Pool(3.0, 1.0, 300)
    found = pooled_percentiles(scores([3, 3, 4, 4]), pool=pool)
    assert values(found) == pytest.approx([(50 + 100 * ndtr(1)) / 2])
    weak = scores([3, 3, 4, 4], [1, 1, 1, 1])
    assert pooled_percentiles(weak, pool=pool).percentiles[0] == found.percentiles[0]
    with pytest.raises(ValueError, match="normal-cdf"):
        pooled_percentiles(weak, pool=pool, kind="empirical-midrank")


def test_another_method_in_the_pool_moves_the_rest_and_can_turn_their_order() -> None:
    """One is all 3, the other nearly half 1 and half 5: which is ahead depends on a third method."""
    a, b = [3.0] * 100, [1.0] * 48 + [5.0] * 52
    weak = values(pooled_percentiles(scores(a, b, [1.0] * 100), draws=2))
    strong = values(pooled_percentiles(scores(a, b, [5.0] * 100), draws=2))
    assert weak[0] > weak[1]
    assert strong[0] < strong[1]


def test_the_same_seed_gives_the_same_interval() -> None:
    data = ratings(np.random.default_rng(4), [2.5, 3.0], 30)
    one, same, other = (pooled_percentiles(data, seed=seed, draws=300) for seed in (1, 1, 2))
    assert one.percentiles == same.percentiles != other.percentiles


def test_redraws_in_portions_equal_a_loop_over_whole_resamples() -> None:
    """The vectorised bootstrap is the plain one: redraw scenarios, pool again, average again."""
    data = ratings(np.random.default_rng(5), [2.5, 3.0, 3.4], 25)
    drawn = pooled_percentiles(data, seed=7, draws=300).drawn
    rng = np.random.default_rng(7)
    counts = np.concatenate([rng.multinomial(25, np.full(25, 1 / 25), size=size) for size in (256, 44)])
    plain = [values(pooled_percentiles(np.repeat(data, count, axis=1), draws=0)) for count in counts]
    np.testing.assert_allclose(drawn, plain, rtol=1e-9)


@pytest.mark.parametrize("kind", ["normal-cdf", "empirical-midrank"])
def test_intervals_of_values_and_differences_hold_their_level(kind: str) -> None:
    """200 simulated runs of 60 scenarios; 95 % intervals should miss 10 of 200, and miss 24 once in 20,000 sets."""
    rng = np.random.default_rng(6)
    means = [2.6, 3.0, 3.5]
    truth = pooled_percentiles(ratings(rng, means, 200_000), kind=kind, draws=0)  # type: ignore[arg-type]
    misses = np.zeros(2)
    for _ in range(200):
        found = pooled_percentiles(ratings(rng, means, 60), kind=kind, draws=400)  # type: ignore[arg-type]
        pairs = ((found.percentiles[1], truth.percentiles[1]), (difference(found, 2, 1), difference(truth, 2, 1)))
        for index, (interval, true) in enumerate(pairs):
            low, high = bounds(interval)
            assert true is not None
            misses[index] += not low <= true.value <= high
    assert (misses <= 24).all(), misses
    assert (misses >= 1).all(), misses


def test_difficulty_that_methods_share_cancels_in_their_difference() -> None:
    """The same scores with one method's scenarios in another order are not paired, and their difference is wider."""
    data = ratings(np.random.default_rng(8), [2.8, 3.0], 80, spread=0.3)
    apart = data.copy()
    apart[1] = apart[1, ::-1]
    paired, unpaired = (bounds(difference(pooled_percentiles(each), 1, 0)) for each in (data, apart))
    assert paired[1] - paired[0] < 0.75 * (unpaired[1] - unpaired[0])


def test_ranks_of_clear_and_of_equal_methods() -> None:
    clear = ranks(pooled_percentiles(ratings(np.random.default_rng(9), [1.5, 3.0, 4.5], 60)))
    assert clear == ((3, 3, 0.0), (2, 2, 0.0), (1, 1, 1.0))
    same = ratings(np.random.default_rng(9), [3.0], 60)
    tied = ranks(pooled_percentiles(np.repeat(same, 2, axis=0)))
    assert tied == ((1, 1, 0.5), (1, 1, 0.5))
    near = ranks(pooled_percentiles(ratings(np.random.default_rng(9), [3.0, 3.02], 60)))
    assert all(rank is not None and rank[:2] == (1, 2) for rank in near)
    assert sum(rank.first for rank in near if rank) == pytest.approx(1)


# What can be said of the paper's own Table 2, of which only nine times three means are published.


def table_2() -> dict[str, list[float]]:
    (summary,) = published.read("table2")
    found: dict[str, list[float]] = {}
    for cell in summary.cells:
        if cell.value is not None and cell.column in ("EA", "NI", "MVC", "CN", "SR", "IC", "LC", "CU", "OIE"):
            found.setdefault(cell.column, []).append(cell.value)
    return found


def ordinal_scores(target: Sequence[float]) -> Array | None:
    """Return how often three equally large methods must score 1..5 [3, 5] to have these percentiles, or None.

    For a given pool (mu, sigma) that is a linear programme: each method's shares add to 1 and its mean of 100 * Phi(z)
    is the published one within its rounding, and the pool has just this mean and variance.
    """
    levels = np.arange(1.0, 6.0)
    each = np.kron(np.eye(3), np.ones(5))
    for mu in np.arange(1.5, 4.6, 0.1):
        for sigma in np.arange(0.5, 2.0, 0.1):
            percentile = np.kron(np.eye(3), 100 * ndtr((levels - mu) / sigma))
            pool = np.vstack([np.tile(levels, 3) / 3, np.tile((levels - mu) ** 2, 3) / 3])
            solved = linprog(
                np.zeros(15),
                A_eq=np.vstack([each, pool]),
                b_eq=np.array([1, 1, 1, mu, sigma**2]),
                A_ub=np.vstack([percentile, -percentile]),
                b_ub=np.concatenate([np.array(target) + 0.005, 0.005 - np.array(target)]),
                bounds=(0, 1),
                method="highs",
            )
            if solved.success:
                return np.asarray(solved.x, dtype=np.float64).reshape(3, 5)
    return None


def test_table_2_is_no_mean_mid_rank() -> None:
    """Mid-ranks of equally many scores average to 50 whatever the scores; the published columns do not."""
    means = {name: float(np.mean(column)) for name, column in table_2().items()}
    assert {name: round(value, 2) for name, value in means.items()} == {
        **{"EA": 52.94, "NI": 52.43, "MVC": 46.60, "CN": 51.86},
        **{"SR": 54.62, "IC": 49.50, "LC": 53.61, "CU": 53.83, "OIE": 51.25},
    }
    # "at most" ranks could only average above 50, "below" ranks only beneath: both sides occur
    assert min(means.values()) < 49
    assert max(means.values()) > 51


def test_table_2_is_no_percentile_of_the_mean_z() -> None:
    """The mean z of equally large methods add to 0; those that the published percentiles imply do not."""
    sums = [ndtri(np.array(column) / 100).sum() for column in table_2().values()]
    assert max(sums) == pytest.approx(0.35, abs=0.01)
    assert min(sums) == pytest.approx(-0.13, abs=0.01)


def test_table_2_can_be_a_mean_of_phi_of_scores_from_one_to_five() -> None:
    """All nine columns; and `pooled_percentiles` of 1,000 such scores a method gives the published numbers back."""
    for name, column in table_2().items():
        shares = ordinal_scores(column)
        assert shares is not None, name
        data = scores(
            *([float(level) for level in np.searchsorted(np.cumsum(p), _quantiles(1000)) + 1] for p in shares)
        )
        assert values(pooled_percentiles(data, draws=0)) == pytest.approx(column, abs=0.15), name


def _quantiles(n: int) -> Array:
    return (np.arange(n) + 0.5) / n * (1 - 1e-9)


@pytest.mark.parametrize(("level", "expected"), [(0.95, ((1, 2), (1, 2))), (0.5, ((1, 1), (2, 2)))])
def test_rank_intervals_hold_the_share_of_redraws_that_their_level_says(
    level: float, expected: tuple[tuple[int, int], ...]
) -> None:
    """One method is ahead in nine redraws of ten: 95 % of them hold both ranks, the middle half only one."""
    drawn = np.array([[60.0, 40.0]] * 90 + [[40.0, 60.0]] * 10)
    values = (Interval(58.0, None, None), Interval(42.0, None, None))
    found = ranks(Pooled(values, (10, 10), 10, Pool(3.0, 1.0, 20), drawn, level))
    assert tuple((rank.low, rank.high) for rank in found if rank) == expected
    assert found[0] is not None and found[0].first == pytest.approx(0.9)
