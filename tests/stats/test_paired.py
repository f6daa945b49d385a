from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats as scipy_stats

from lt_eval.stats import detectable_difference, holm, power_of_difference, sign_flip_p
from lt_eval.stats.paired import EXACT_UP_TO


def p_of(differences: list[float]) -> float:
    p = sign_flip_p(differences)
    assert p is not None
    return p


def test_few_differences_are_counted_exactly() -> None:
    """All of one sign: only two of the 2^n patterns lie as far out."""
    assert p_of([1.0, 2.0, 0.5]) == 2 / 8
    assert p_of([-1.0] * 10) == 2 / 1024


def test_exact_p_equals_counting_by_hand() -> None:
    given = [0.5, -1.0, 2.0, 0.25, 1.5, -0.75, 0.3]
    sums = [
        abs(sum(s * d for s, d in zip(signs, given, strict=True))) for signs in itertools.product((-1, 1), repeat=7)
    ]
    assert p_of(given) == np.mean(np.array(sums) >= abs(sum(given)) - 1e-9)


def test_ties_of_rounded_sums_count_as_equally_far() -> None:
    """0.1 + 0.2 and 0.3 are one reach, though not one float: 3 of the 4 size-ties would be lost otherwise."""
    assert p_of([0.1, 0.2, 0.3]) == 2 / 8
    assert p_of([0.1, 0.2, -0.3]) == 1.0


def test_differences_of_zero_say_nothing() -> None:
    assert p_of([0.0] * 50) == 1.0
    assert p_of([1.0, 2.0, 0.5, *[0.0] * 90]) == p_of([1.0, 2.0, 0.5])
    assert sign_flip_p([]) is None
    with pytest.raises(ValueError, match="finite"):
        sign_flip_p([1.0, float("nan")])


def test_many_differences_agree_with_the_exact_count_and_with_students_test() -> None:
    rng = np.random.default_rng(0)
    few = rng.normal(0.4, 1, EXACT_UP_TO)
    exact = p_of(few.tolist())
    # one difference more, negligible, and the test is drawn instead of counted
    assert p_of([*few.tolist(), 1e-15]) == pytest.approx(exact, abs=0.015)
    many = rng.normal(0.25, 1, 100)
    assert p_of(many.tolist()) == pytest.approx(scipy_stats.ttest_1samp(many, 0).pvalue, abs=0.01)


def test_a_drawn_p_is_never_zero_and_repeats_with_its_seed() -> None:
    far = [1.0 + i / 100 for i in range(40)]
    assert sign_flip_p(far, draws=999) == 1 / 1000
    near = np.random.default_rng(1).normal(0.1, 1, 40).tolist()
    assert sign_flip_p(near, seed=3) == sign_flip_p(near, seed=3) != sign_flip_p(near, seed=4)


def test_a_difference_that_is_none_is_found_as_often_as_the_level_says() -> None:
    rng = np.random.default_rng(2)
    found = [p_of(rng.normal(0, 1, 12).round(1).tolist()) <= 0.05 for _ in range(400)]
    assert 6 <= sum(found) <= 36  # expected 20, seven in 10,000 sets lie outside


def test_holm_steps_down() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, None, 0.8]) == [1.0, None, 1.0]
    assert holm([]) == []
    assert holm([0.02]) == [0.02]


def test_power_is_that_of_students_test_by_simulation() -> None:
    rng = np.random.default_rng(3)
    for difference, n in ((0.3, 100), (0.5, 20)):
        data = rng.normal(difference, 1.1, (20_000, n))
        t = data.mean(1) / data.std(1, ddof=1) * np.sqrt(n)
        found = (np.abs(t) > scipy_stats.t.ppf(0.975, n - 1)).mean()
        assert power_of_difference(difference, 1.1, n) == pytest.approx(found, abs=0.012)


def test_without_a_difference_power_is_the_level() -> None:
    assert power_of_difference(0.0, 1.0, 30) == pytest.approx(0.05)
    with pytest.raises(ValueError, match="2 scenarios"):
        power_of_difference(0.1, 1.0, 1)


def test_the_detectable_difference_is_found_with_just_that_power() -> None:
    found = detectable_difference(1.1, 100)
    assert found is not None
    assert power_of_difference(found, 1.1, 100) == pytest.approx(0.8)
    assert found == pytest.approx((1.96 + 0.8416) * 1.1 / 10, rel=0.02)
    assert detectable_difference(1.1, 400) == pytest.approx(found / 2, rel=0.02)
    strict = detectable_difference(1.1, 100, comparisons=27)
    assert strict is not None
    assert strict > found
    assert detectable_difference(1.1, 1) is None
    assert detectable_difference(0.0, 100) is None


def test_power_of_judged_scores_is_what_the_documentation_says() -> None:
    """100 scenarios, judgments 1..5 of one call: 0.1 is rarely found, 0.4 nearly always."""
    rng = np.random.default_rng(4)
    expected = {0.1: 0.09, 0.2: 0.36, 0.3: 0.68, 0.4: 0.90}
    for difference, power in expected.items():
        latent = rng.normal(3, 0.6, (200, 1, 100)) + rng.normal(0, 0.8, (200, 2, 100))
        latent[:, 0] += difference
        scores = np.clip(np.rint(latent), 1, 5)
        found = [p_of(list(pair)) <= 0.05 for pair in scores[:, 0] - scores[:, 1]]
        assert np.mean(found) == pytest.approx(power, abs=0.11), difference


def test_sums_that_tie_tie_whatever_the_order_they_are_added_in() -> None:
    """0.1 + 0.2 - 0.3 is 0 only on paper; every pattern is at least as far from 0 as that one."""
    assert sign_flip_p([0.1, 0.2, -0.3]) == 1.0
    values = [0.1, 0.2, 0.3, -0.6, 0.7, 1.1]
    assert len({sign_flip_p(order) for order in itertools.permutations(values)}) == 1
