from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from lt_eval.errors import UnscorableError
from lt_eval.interfaces import Influence
from lt_eval.metrics.frechet import frechet_distance, frechet_influence
from lt_eval.records import Features
from lt_eval.stats import (
    Interval,
    influence_difference,
    influence_interval,
    jackknife_influence,
    mean_interval,
    paired_difference,
    share_difference,
    share_interval,
)

VALUES = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=2, max_size=40)


def bounds(interval: Interval) -> tuple[float, float]:
    assert interval.low is not None
    assert interval.high is not None
    return interval.low, interval.high


@settings(max_examples=40, deadline=None)
@given(values=VALUES, scale=st.floats(0.1, 10), move=st.floats(-100, 100))
def test_the_interval_holds_the_mean_and_follows_scale_and_shift(
    values: list[float], scale: float, move: float
) -> None:
    interval = mean_interval(values, draws=200)
    low, high = bounds(interval)
    assert interval.value == pytest.approx(np.mean(values))
    assert low <= interval.value + 1e-9
    assert high >= interval.value - 1e-9
    moved = mean_interval([scale * x + move for x in values], draws=200)
    tolerance = 1e-6 * (1 + np.ptp(values) * scale + abs(move))
    assert moved == pytest.approx(
        (scale * interval.value + move, scale * low + move, scale * high + move), abs=tolerance
    )


def test_the_interval_narrows_with_more_clips() -> None:
    values = np.random.default_rng(0).standard_normal(400).tolist()
    widths = [np.ptp(bounds(mean_interval(values[:n]))) for n in (8, 25, 100, 400)]
    assert widths == sorted(widths, reverse=True)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).standard_normal(30).tolist()
    assert mean_interval(values, seed=5) == mean_interval(values, seed=5) != mean_interval(values, seed=6)


def test_a_wider_level_gives_a_wider_interval() -> None:
    values = np.random.default_rng(0).standard_normal(30).tolist()
    (low, high), (wide_low, wide_high) = bounds(mean_interval(values, level=0.8)), bounds(mean_interval(values))
    assert wide_low < low < high < wide_high


def test_few_clips_get_students_interval_and_one_gets_none() -> None:
    assert mean_interval([3.0]) == (3.0, None, None)
    values = [1.0, 2.0, 4.0]
    expected = scipy_stats.t.interval(0.95, 2, np.mean(values), scipy_stats.sem(values))
    assert bounds(mean_interval(values)) == pytest.approx(expected)


def test_equal_values_have_no_spread() -> None:
    assert mean_interval([0.1] * 12) == pytest.approx((0.1, 0.1, 0.1))


def test_redraws_of_equal_values_do_not_blow_the_interval_up() -> None:
    """One odd value of eight: a third of all redraws hold equal values only, whose error is nothing but rounding."""
    low, high = bounds(mean_interval([1.812 * 1.5, *[0.0] * 7]))
    assert -10 < low < high < 10


def test_turns_of_a_dialogue_are_redrawn_together() -> None:
    rng = np.random.default_rng(0)
    values = np.repeat(rng.standard_normal(20), 4).tolist()
    dialogues = np.repeat(np.arange(20), 4).tolist()
    together = mean_interval(values, clusters=dialogues)
    # Four equal turns say no more than one, and single-turn clusters are no clusters.
    assert together == pytest.approx(mean_interval(values[::4]))
    assert mean_interval(values, clusters=list(range(80))) == mean_interval(values)
    assert mean_interval(values[:4], clusters=[0] * 4) == (values[0], None, None)


@pytest.mark.parametrize(("values", "clusters"), [([], None), ([1.0, np.nan], None), ([1.0, 2.0], ["a"])])
def test_what_has_no_mean_is_refused(values: list[float], clusters: list[str] | None) -> None:
    with pytest.raises(ValueError, match="given"):
        mean_interval(values, clusters=clusters)


@pytest.mark.parametrize(("clips", "skewed"), [(8, False), (8, True), (30, True)])
def test_mean_intervals_cover_at_their_level(clips: int, skewed: bool) -> None:
    """1,000 intervals at 95 %: fewer than 92.5 or more than 97.5 % would be 3.6 binomial standard errors off."""
    rng = np.random.default_rng(1)
    samples = rng.gamma(4.0, size=(1000, clips)) - 4.0 if skewed else rng.standard_normal((1000, clips))
    hits = [
        low <= 0.0 <= high
        for low, high in (bounds(mean_interval(x.tolist(), seed=seed, draws=400)) for seed, x in enumerate(samples))
    ]
    assert 0.925 < np.mean(hits) < 0.975


def test_paired_difference_uses_common_ids_only() -> None:
    rng = np.random.default_rng(0)
    b = {f"clip{i}": float(x) for i, x in enumerate(rng.standard_normal(30))}
    a = {sample: x + 0.5 for sample, x in b.items()}
    assert paired_difference({**a, "lost": 9.0}, b) == pytest.approx((0.5, 0.5, 0.5))
    there, back = paired_difference(a, {**b, "clip0": 3.0}), paired_difference({**b, "clip0": 3.0}, a)
    assert back.value == pytest.approx(-there.value)
    with pytest.raises(ValueError, match="there are none"):
        paired_difference({"x": 1.0}, {"y": 1.0})


def test_paired_difference_by_dialogue() -> None:
    a = {f"{d:02}-{t}": float(d) for d in range(12) for t in range(3)}
    b = dict.fromkeys(a, 0.0)
    by_dialogue = paired_difference(a, b, clusters={key: key.split("-")[0] for key in a})
    assert by_dialogue == pytest.approx(mean_interval([float(d) for d in range(12)]))


def test_the_mean_as_a_set_metric_gets_students_interval() -> None:
    """The pull of a clip on a mean is its deviation, so the jackknife must give the textbook interval."""
    values = np.random.default_rng(0).standard_normal(20)
    influence = Influence(values - values.mean(), np.zeros(20))
    expected = scipy_stats.t.interval(0.95, 19, values.mean(), scipy_stats.sem(values))
    assert bounds(influence_interval(float(values.mean()), influence)) == pytest.approx(expected)


def test_pulls_of_a_pair_add_before_squaring() -> None:
    rng = np.random.default_rng(0)
    pulls = rng.standard_normal(10)
    ids = [f"clip{i}" for i in range(10)]
    cancel = influence_interval(1.0, Influence(pulls, -pulls), generated_ids=ids, reference_ids=ids)
    assert bounds(cancel) == pytest.approx((1.0, 1.0))
    turned = influence_interval(1.0, Influence(pulls, -pulls[::-1]), generated_ids=ids, reference_ids=ids[::-1])
    assert bounds(turned) == pytest.approx((1.0, 1.0))
    alone = influence_interval(1.0, Influence(pulls, -pulls))
    apart = influence_interval(1.0, Influence(pulls, -pulls), generated_ids=ids, reference_ids=[f"r{i}" for i in ids])
    assert alone == apart
    assert np.ptp(bounds(alone)) > 0.1


def test_bounds_stop_at_the_least_possible_value_and_one_clip_has_none() -> None:
    pulls = np.array([-5.0, 5.0, 1.0, -1.0])
    free = influence_interval(1.0, Influence(pulls, pulls))
    kept = influence_interval(1.0, Influence(pulls, pulls), minimum=0.0)
    assert bounds(free)[0] < 0.0
    assert kept == (1.0, 0.0, free.high)
    assert influence_interval(1.0, Influence(np.zeros(1), pulls)) == (1.0, None, None)
    with pytest.raises(ValueError, match="one id a clip"):
        influence_interval(1.0, Influence(pulls, pulls), generated_ids=["a"])


def clips_like(seed: int, clips: int, scale: float = 1.0, noise: int | None = None) -> list[Features]:
    """Six rows of ten values a clip around a person of its own; `noise` seeds the rows apart from the people."""
    people = np.random.default_rng(seed).standard_normal((clips, 1, 10))
    rows = np.random.default_rng(seed + 10_000 if noise is None else noise).standard_normal((clips, 6, 10))
    return list((scale * (people + 0.6 * rows)).astype(np.float32))


def test_a_difference_of_a_method_with_itself_is_surely_zero() -> None:
    x, y = clips_like(0, 12), clips_like(1, 12)
    value, pulls = frechet_distance(x, y), frechet_influence(x, y)
    ids = list(range(12))
    difference = influence_difference(
        value, pulls, value, pulls, generated_ids_a=ids, generated_ids_b=ids, reference_ids=ids
    )
    assert difference == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)


def test_a_paired_difference_is_surer_than_its_parts() -> None:
    """Two methods draw the same people: what the people do to both distances cancels."""
    reference, ids = clips_like(0, 20), list(range(20))
    methods = [clips_like(0, 20, scale=0.9, noise=1), clips_like(0, 20, scale=0.8, noise=2)]
    values = [frechet_distance(method, reference) for method in methods]
    pulls = [frechet_influence(method, reference) for method in methods]
    difference = influence_difference(
        values[0], pulls[0], values[1], pulls[1], generated_ids_a=ids, generated_ids_b=ids, reference_ids=ids
    )
    assert difference.value == pytest.approx(values[0] - values[1])
    width = np.ptp(bounds(difference))
    for value, pull in zip(values, pulls, strict=True):
        assert width < np.ptp(bounds(influence_interval(value, pull)))


def frechet_column(generated: Sequence[Features], reference: Sequence[Features]) -> Mapping[str, float]:
    return {"FD": frechet_distance(generated, reference)}


def test_leaving_clips_out_tells_what_the_derivative_tells() -> None:
    x, y = clips_like(0, 150), clips_like(1, 120, scale=0.7)
    exact, left_out = frechet_influence(x, y), jackknife_influence(frechet_column, x, y)["FD"]
    for ours, theirs in zip(exact, left_out, strict=True):
        assert theirs.sum() == pytest.approx(0.0, abs=1e-9)
        assert np.corrcoef(ours, theirs)[0, 1] > 0.98
        assert np.std(theirs) == pytest.approx(np.std(ours), rel=0.15)


def test_counterparts_are_left_out_together() -> None:
    reference, ids = clips_like(0, 25), [f"clip{i}" for i in range(25)]
    generated = clips_like(0, 25, scale=0.7, noise=3)
    value = frechet_distance(generated, reference)
    exact = influence_interval(value, frechet_influence(generated, reference), generated_ids=ids, reference_ids=ids)
    calls: list[int] = []

    def counted(a: Sequence[Features], b: Sequence[Features]) -> Mapping[str, float]:
        calls.append(len(a))
        return frechet_column(a, b)

    pulls = jackknife_influence(counted, generated, reference, generated_ids=ids, reference_ids=ids)["FD"]
    assert len(calls) == 26
    assert not pulls.reference.any()
    left_out = influence_interval(value, pulls, generated_ids=ids, reference_ids=ids)
    assert np.ptp(bounds(left_out)) == pytest.approx(np.ptp(bounds(exact)), rel=0.25)


def test_the_only_clip_of_a_side_is_never_left_out() -> None:
    x, y = clips_like(0, 1), clips_like(1, 6)
    pulls = jackknife_influence(frechet_column, x, y)["FD"]
    assert pulls.generated.tolist() == [0.0]
    assert pulls.reference.any()
    assert influence_interval(1.0, pulls) == (1.0, None, None)


def test_a_distance_that_needs_every_clip_has_no_influence() -> None:
    def needy(generated: Sequence[Features], reference: Sequence[Features]) -> Mapping[str, float]:
        if len(generated) < 3:
            raise UnscorableError("too_few_clips", "three at least")
        return {"all": 1.0}

    assert jackknife_influence(needy, clips_like(0, 3), clips_like(1, 6)) == {}


@pytest.mark.parametrize("paired", [False, True])
def test_frechet_intervals_cover_at_their_level(paired: bool) -> None:
    """300 intervals at 95 %: under 91 % would be three binomial standard errors too few; over 95 % is the safe side."""
    ids = list(range(12))
    values, intervals = [], []
    for seed in range(300):
        reference = clips_like(seed, 12)
        generated = clips_like(seed if paired else seed + 5000, 12, scale=0.7, noise=seed + 20_000)
        values.append(frechet_distance(generated, reference))
        pulls = frechet_influence(generated, reference)
        matched = ids if paired else [-1 - each for each in ids]
        intervals.append(influence_interval(values[-1], pulls, generated_ids=matched, reference_ids=ids))
    expected = np.mean(values)
    hits = [low <= expected <= high for low, high in map(bounds, intervals)]
    assert np.mean(hits) >= 0.91
    assert np.median([np.ptp(bounds(each)) for each in intervals]) < 3 * 2 * 1.96 * np.std(values)


@pytest.mark.parametrize(
    ("ones", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (15, 148, 0.0624, 0.1605), (81, 263, 0.2553, 0.3662)],
)
def test_a_share_has_wilsons_interval(ones: int, n: int, low: float, high: float) -> None:
    # the last two are the examples of Newcombe 1998, Statistics in Medicine 17, 857, table I, method 3
    found = share_interval([1.0] * ones + [0.0] * (n - ones))
    assert found == pytest.approx((ones / n, low, high), abs=6e-5)


def test_shares_of_pairs_that_always_agree_differ_less_than_those_of_strangers() -> None:
    values = {str(i): float(i % 3 == 0) for i in range(30)}
    others = {str(i): float(i % 3 == 1) for i in range(30)}
    same, strangers = share_difference(values, values), share_difference(values, others)
    assert same.value == strangers.value == 0.0
    assert same.low is not None and same.high is not None and strangers.low is not None and strangers.high is not None
    assert same.low < 0.0 < same.high and same.high - same.low < 0.3 * (strangers.high - strangers.low)


@pytest.mark.parametrize(
    ("both", "first", "second", "neither", "low", "high"),
    [
        (14, 5, 0, 22, 0.01148, 0.22649),
        (10, 15, 5, 20, 0.02584, 0.35694),
        (43, 0, 1, 0, -0.11808, 0.05972),
        (20, 0, 0, 20, -0.04680, 0.04680),
    ],
)
def test_a_difference_of_shares_has_newcombes_interval(
    both: int, first: int, second: int, neither: int, low: float, high: float
) -> None:
    # by the formula in counts of Altman et al., Statistics with Confidence (2000), p. 52; the first is its example
    a = [1.0] * (both + first) + [0.0] * (second + neither)
    b = [1.0] * both + [0.0] * first + [1.0] * second + [0.0] * neither
    ids = [str(i) for i in range(len(a))]
    found = share_difference(dict(zip(ids, a, strict=True)), dict(zip(ids, b, strict=True)))
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-6)


def test_differences_of_shares_are_antisymmetric_and_stay_between_minus_one_and_one() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        a, b = ({str(i): float(rng.random() < p) for i in range(9)} for p in rng.random(2))
        there, back = share_difference(a, b), share_difference(b, a)
        assert there.low is not None and there.high is not None and back.low is not None and back.high is not None
        assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))
        assert -1.0 <= there.low <= there.value <= there.high <= 1.0


def test_intervals_of_shares_hold_their_level() -> None:
    rng = np.random.default_rng(11)
    held, held_difference = [], []
    for _ in range(600):
        common = rng.random(40) < 0.4
        a = np.where(common, rng.random(40) < 0.9, rng.random(40) < 0.6)
        b = np.where(common, a, rng.random(40) < 0.5)
        one = {str(i): float(x) for i, x in enumerate(a)}
        two = {str(i): float(x) for i, x in enumerate(b)}
        share, difference = share_interval(list(one.values())), share_difference(one, two)
        assert share.low is not None and share.high is not None
        assert difference.low is not None and difference.high is not None
        held.append(share.low <= 0.4 * 0.9 + 0.6 * 0.6 <= share.high)
        held_difference.append(difference.low <= 0.6 * 0.1 <= difference.high)
    assert 0.92 < np.mean(held) < 0.985
    assert 0.92 < np.mean(held_difference) < 0.985


def test_a_share_of_other_values_is_refused() -> None:
    with pytest.raises(ValueError, match="values 0 and 1"):
        share_interval([0.0, 0.5])
