"""The choice of clips depends on the seed and the ids, and on nothing else."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lt_eval.datasets.candidates import Candidate
from lt_eval.datasets.select import choose, ranked, start_within


def make(id: str, person: str = "", length_s: float = 20.0) -> Candidate:
    return Candidate(id, Path(f"{id}.mp4"), 3.0, 3.0 + length_s, None, person or id)


MANY = [make(f"clip{i}", person=f"person{i % 40}") for i in range(200)]


def ids(candidates: list[Candidate]) -> list[str]:
    return [candidate.id for candidate in candidates]


def test_the_ranking_is_fixed_for_all_time() -> None:
    """A change here makes all earlier preparations another data set: then METHOD must rise."""
    assert ids(ranked([make(id) for id in "abcdef"], seed=0)) == ["f", "d", "a", "c", "b", "e"]
    assert start_within(make("a"), 5.0, seed=0) == 14.026


@given(st.randoms(use_true_random=False))
def test_order_of_listing_does_not_matter(random: Random) -> None:
    shuffled = list(MANY)
    random.shuffle(shuffled)
    assert ids(ranked(shuffled, 7)) == ids(ranked(MANY, 7))


@given(st.sets(st.sampled_from(range(200)), max_size=60))
def test_missing_candidates_change_nothing_else(missing: set[int]) -> None:
    """Of the clips that both machines hold, the one with fewer candidates chooses all that the other chose."""
    fewer = [candidate for index, candidate in enumerate(MANY) if index not in missing]
    both = set(ids(fewer))
    full = choose(ranked(MANY, 1), 30, lambda _: True, spread=False)
    rest = choose(ranked(fewer, 1), 30, lambda _: True, spread=False)
    assert {id for id in ids(full) if id in both} <= set(ids(rest))


def test_more_clips_continue_the_list() -> None:
    """The first n of a large set are the set of n clips."""
    for spread in (True, False):
        large = ids(choose(ranked(MANY, 3), 90, lambda _: True, spread=spread))
        assert ids(choose(ranked(MANY, 3), 25, lambda _: True, spread=spread)) == large[:25]


def test_seeds_choose_differently() -> None:
    one, two = (set(ids(ranked(MANY, seed)[:50])) for seed in (0, 1))
    # 50 of 200 twice at random share 12.5 +- 2.7; more than 30 shared has a chance below 1e-9
    assert len(one & two) <= 30


def test_persons_come_once_before_any_comes_twice() -> None:
    order = ranked(MANY, 0)
    forty = choose(order, 40, lambda _: True, spread=True)
    assert set(Counter(candidate.person for candidate in forty).values()) == {1}
    sixty = choose(order, 60, lambda _: True, spread=True)
    assert sorted(Counter(candidate.person for candidate in sixty).values()) == [1] * 20 + [2] * 20


def test_a_failed_candidate_is_replaced_by_the_next_of_its_person() -> None:
    """A person is not lost because one of their clips is damaged."""
    order = [make("a1", "a"), make("a2", "a"), make("b1", "b"), make("a3", "a")]
    tried: list[str] = []

    def accept(candidate: Candidate) -> bool:
        tried.append(candidate.id)
        return candidate.id != "a1"

    assert ids(choose(order, 2, accept, spread=True)) == ["a2", "b1"]
    assert tried == ["a1", "a2", "b1"]


def test_it_stops_when_nothing_is_left() -> None:
    assert choose(MANY[:5], 10, lambda _: False, spread=True) == []
    assert len(choose(MANY[:5], 10, lambda _: True, spread=True)) == 5


@given(st.text(min_size=1, max_size=12), st.floats(5.0, 500.0), st.integers(0, 10**6))
def test_starts_lie_within_the_candidate(id: str, length_s: float, seed: int) -> None:
    candidate = make(id, length_s=length_s)
    start_s = start_within(candidate, 5.0, seed)
    assert candidate.start_s <= start_s <= candidate.end_s - 5.0 + 1e-9


def test_starts_are_uniform() -> None:
    starts = np.asarray([start_within(make(f"c{i}", length_s=15.0), 5.0, 0) for i in range(2000)]) - 3.0
    # the mean of 2000 uniform draws over 10 s is 5 +- 0.065
    assert abs(starts.mean() - 5.0) < 0.3 and starts.min() < 0.1 and starts.max() > 9.9
