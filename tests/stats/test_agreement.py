from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from lt_eval.stats import dimension_correlations, krippendorff_alpha, length_bias, rank_correlation, variance_split

X = np.nan
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, X, X, X],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, X, 3],
        [X, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, X],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, X],
    ]
)
"""Four observers, twelve units: Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), example C and D."""


def test_alpha_of_the_published_example() -> None:
    assert krippendorff_alpha(PUBLISHED, measurement="nominal") == pytest.approx(0.743, abs=0.0005)
    assert krippendorff_alpha(PUBLISHED, measurement="ordinal") == pytest.approx(0.815, abs=0.0005)
    assert krippendorff_alpha(PUBLISHED, measurement="interval") == pytest.approx(0.849, abs=0.0005)


def test_alpha_of_the_published_binary_example() -> None:
    """Two observers, ten units (the same paper, example A): 0.095."""
    ratings = np.array([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]], dtype=np.float64)
    assert krippendorff_alpha(ratings, measurement="nominal") == pytest.approx(0.095, abs=0.0005)


def test_full_agreement_is_one_and_chance_is_zero() -> None:
    rng = np.random.default_rng(0)
    row = rng.integers(1, 6, 400).astype(np.float64)
    assert krippendorff_alpha(np.stack([row, row, row])) == pytest.approx(1)
    assert krippendorff_alpha(rng.integers(1, 6, (3, 4000)).astype(np.float64)) == pytest.approx(0, abs=0.03)


def test_ordinal_alpha_knows_ranks_only() -> None:
    assert krippendorff_alpha(PUBLISHED**3) == pytest.approx(krippendorff_alpha(PUBLISHED))
    assert krippendorff_alpha(PUBLISHED**3, measurement="interval") != pytest.approx(
        krippendorff_alpha(PUBLISHED, measurement="interval"), abs=0.001
    )


def test_alpha_does_not_depend_on_the_order_of_raters_and_ignores_lonely_ratings() -> None:
    assert krippendorff_alpha(PUBLISHED[::-1]) == pytest.approx(krippendorff_alpha(PUBLISHED))
    assert krippendorff_alpha(PUBLISHED[:, :11]) == pytest.approx(krippendorff_alpha(PUBLISHED))


def test_alpha_without_pairs_or_spread_is_none() -> None:
    assert krippendorff_alpha(PUBLISHED[:1]) is None
    assert krippendorff_alpha(np.full((2, 5), 3.0)) is None
    assert krippendorff_alpha(np.full((2, 5), np.nan)) is None


def test_rank_correlation_is_spearmans() -> None:
    rng = np.random.default_rng(1)
    one = rng.integers(1, 6, 80).astype(np.float64)
    other = np.rint(one + rng.normal(0, 1.5, 80))
    expected = scipy_stats.spearmanr(one, other).statistic
    assert rank_correlation(one, other) == pytest.approx(expected)
    one[3], other[7] = np.nan, np.nan
    assert rank_correlation(one, other) == pytest.approx(
        scipy_stats.spearmanr(np.delete(one, [3, 7]), np.delete(other, [3, 7])).statistic
    )
    assert rank_correlation(one[:2], other[:2]) is None
    assert rank_correlation(np.ones(9), other[:9]) is None


def test_dimensions_that_are_one_have_one_component_and_independent_ones_have_their_share() -> None:
    rng = np.random.default_rng(2)
    one = rng.normal(size=(2, 500))
    same = dimension_correlations(np.stack([one] * 9))
    assert same.first_share == pytest.approx(1)
    assert same.n == 1000
    apart = dimension_correlations(rng.normal(size=(9, 2, 500)))
    assert apart.first_share == pytest.approx(1 / 9, abs=0.03)
    assert np.diag(np.array(apart.matrix, dtype=np.float64)) == pytest.approx(np.ones(9))


def test_a_method_better_in_everything_is_no_halo_within_methods() -> None:
    samples = np.random.default_rng(3).normal(size=(2, 3, 300)) + np.array([0.0, 4.0, 8.0])[:, None]
    assert (dimension_correlations(samples, within=False).matrix[0][1] or 0) > 0.8
    assert dimension_correlations(samples).matrix[0][1] == pytest.approx(0, abs=0.1)


def test_a_missing_dimension_has_no_correlation_and_the_matrix_no_component() -> None:
    samples = np.random.default_rng(3).normal(size=(3, 2, 50))
    samples[1] = np.nan
    found = dimension_correlations(samples)
    assert found.matrix[0][1] is None
    assert found.matrix[0][2] is not None
    assert found.first_share is None


def test_length_bias_within_methods_is_told_from_that_between_them() -> None:
    """The better method talks longer, but within a method length changes nothing."""
    rng = np.random.default_rng(4)
    shift = np.array([[0.0], [3.0]])
    samples, lengths = rng.normal(size=(2, 2, 200)) + shift
    found = length_bias(samples, lengths)
    assert found.n == 400
    assert found.overall is not None
    assert found.overall > 0.5
    assert found.within is not None
    assert found.within.low is not None
    assert found.within.high is not None
    assert found.within.low < 0 < found.within.high
    biased = length_bias(samples + 0.5 * lengths, lengths)
    assert biased.within is not None
    assert biased.within.low is not None
    assert biased.within.low > 0.2


def test_length_bias_intervals_hold_their_level() -> None:
    rng = np.random.default_rng(5)
    misses = 0
    for _ in range(200):
        found = length_bias(*rng.normal(size=(2, 2, 60)), draws=300)
        assert found.within is not None
        assert found.within.low is not None
        assert found.within.high is not None
        misses += not found.within.low <= 0 <= found.within.high
    assert 1 <= misses <= 24  # expected 10


def test_length_bias_of_too_little_is_none() -> None:
    assert length_bias(np.full((2, 5), np.nan), np.ones((2, 5))).within is None
    assert length_bias(np.ones((2, 5)), np.arange(10.0).reshape(2, 5)).within is None


def test_variance_components_are_those_that_were_put_in() -> None:
    rng = np.random.default_rng(6)
    shape = (40, 300, 3)
    scores = (
        3
        + rng.normal(0, 0.5, (40, 1, 1))
        + rng.normal(0, 0.9, (1, 300, 1))
        + rng.normal(0, 0.7, (40, 300, 1))
        + rng.normal(0, 0.3, shape)
    )
    found = variance_split(scores)
    assert found is not None
    assert found.scenario == pytest.approx(0.81, rel=0.2)
    assert found.method == pytest.approx(0.25, rel=0.5)
    assert found.interaction == pytest.approx(0.49, rel=0.05)
    assert found.repeat == pytest.approx(0.09, rel=0.05)
    assert found.n == 300
    assert found.one_call_is_enough is False


def test_components_in_closed_form() -> None:
    """Scenarios 0 and 2 for both methods, repeats equal: all variance is the scenarios'."""
    scores = np.array([[[0.0, 0.0], [2.0, 2.0]], [[0.0, 0.0], [2.0, 2.0]]])
    found = variance_split(scores)
    assert found is not None
    assert (found.scenario, found.method, found.interaction, found.repeat) == (2.0, 0.0, 0.0, 0.0)
    assert found.one_call_is_enough is True


def test_one_repeat_says_nothing_of_repeats_and_holes_cost_their_scenario() -> None:
    scores = np.random.default_rng(7).normal(size=(3, 20, 1))
    scores[1, 4] = np.nan
    found = variance_split(scores)
    assert found is not None
    assert found.repeat is None
    assert found.one_call_is_enough is None
    assert found.n == 19
    assert variance_split(scores[:1]) is None
    assert variance_split(scores[:, :1]) is None


def test_scenarios_without_a_pair_are_not_redrawn() -> None:
    """With most scenarios missing a redraw would often hold none of the others, and the interval be of fewer."""
    rng = np.random.default_rng(0)
    scores = rng.integers(1, 6, (3, 6)).astype(float)
    lengths = rng.normal(100, 20, (3, 6))
    padded = [np.concatenate([each, np.full((3, 40), np.nan)], 1) for each in (scores, lengths)]
    alone, among = length_bias(scores, lengths), length_bias(*padded)
    assert alone.within is not None and among.within is not None
    assert among == alone
