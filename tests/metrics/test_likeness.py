"""Low-resolution likeness: one person is like herself, and more so than another is like her."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from lt_eval.errors import UnscorableError
from lt_eval.metrics.likeness import Likeness, look_of
from lt_eval.records import Dialogue, Frames, Sample, Turn
from lt_eval.synthetic.talker import make_clip, make_spec
from lt_eval.testing import ArrayClip

NAME = "Low-res likeness"


@cache
def take(person: int, number: int) -> Frames:
    """Return a second of a drawn person, who says something else in every take."""
    return make_clip(replace(make_spec(person), seed=10 + number), seconds=0.6, size=160).frames


def likeness(*turns: Frames) -> float:
    samples = [Sample("m", Dialogue("d", (Turn(),)), n, ArrayClip(frames)) for n, frames in enumerate(turns)]
    return Likeness().score_dialogue(samples, "")[NAME]


def test_the_same_clip_twice_is_one() -> None:
    assert likeness(take(1, 0), take(1, 0)) == pytest.approx(1.0)


def test_order_does_not_matter_and_the_mean_is_over_pairs() -> None:
    turns = [take(1, 0), take(1, 1), take(2, 0)]
    pairs = [likeness(a, b) for a, b in itertools.combinations(turns, 2)]
    assert likeness(*turns) == pytest.approx(np.mean(pairs)) == pytest.approx(likeness(*turns[::-1]))


def test_every_person_is_more_like_herself_than_like_anybody_else() -> None:
    people = range(1, 5)
    same = [likeness(take(p, 0), take(p, 1)) for p in people]
    other = [likeness(take(a, 0), take(b, 1)) for a, b in itertools.permutations(people, 2)]
    assert min(same) > 0.9 > 0.85 > max(other)


def test_a_swapped_person_lowers_it_and_so_does_another_light() -> None:
    mine = likeness(take(1, 0), take(1, 1))
    assert likeness(take(1, 0), take(2, 1)) < mine - 0.1
    blue = (take(1, 1).astype(np.float32) * [0.55, 0.8, 1.0]).astype(np.uint8)
    assert likeness(take(1, 0), blue) < mine


def test_brightness_alone_hardly_counts() -> None:
    dimmer = (take(1, 1).astype(np.float32) * 0.8).astype(np.uint8)
    assert likeness(take(1, 0), dimmer) > 0.9


def test_it_hardly_depends_on_the_size_of_the_picture() -> None:
    small = np.ascontiguousarray(take(1, 0)[:, ::2, ::2])
    assert float(look_of(take(1, 0), "a") @ look_of(small, "b")) > 0.95


def test_what_has_no_likeness_has_a_reason() -> None:
    with pytest.raises(UnscorableError, match="compares turns"):
        likeness(take(1, 0))
    noise = np.random.default_rng(0).integers(0, 256, (12, 160, 160, 3), np.uint8)
    with pytest.raises(UnscorableError) as caught:
        likeness(take(1, 0), noise)
    assert caught.value.code == "no_face"
