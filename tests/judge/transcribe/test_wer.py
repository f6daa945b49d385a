"""Word errors against closed forms and another way to count them."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lt_eval.judge.transcribe.wer import WordErrors, total, word_errors, words_of

LINES = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat"]), max_size=7).map(" ".join)


@pytest.mark.parametrize(
    ("said", "heard", "substitutions", "deletions", "insertions"),
    [
        ("the cat sat", "the cat sat", 0, 0, 0),
        ("the cat sat", "the hat sat", 1, 0, 0),
        ("the cat sat", "the sat", 0, 1, 0),
        ("the cat sat", "the black cat sat", 0, 0, 1),
        ("the cat sat", "", 0, 3, 0),
        ("", "uh huh", 0, 0, 2),
        ("the cat sat", "a dog ran", 3, 0, 0),
        ("a b c d", "b c d e", 0, 1, 1),
    ],
)
def test_counts(said: str, heard: str, substitutions: int, deletions: int, insertions: int) -> None:
    found = word_errors(said, heard)
    assert (found.substitutions, found.deletions, found.insertions) == (substitutions, deletions, insertions)
    assert found.words == len(said.split())


def test_case_punctuation_and_kinds_of_apostrophe_do_not_count() -> None:
    assert word_errors("Where's the Eiffel Tower — it’s near?", "where's the eiffel tower it's near").errors == 0
    assert words_of("Don't 'quote' me; well-known. 3rd_party") == [
        "don't",
        "quote",
        "me",
        "well",
        "known",
        "3rd",
        "party",
    ]


@given(LINES)
def test_the_same_text_has_no_error(line: str) -> None:
    assert word_errors(line, line.upper() + " !").errors == 0


@given(LINES, LINES)
def test_said_and_heard_exchanged_exchange_deletions_and_insertions(said: str, heard: str) -> None:
    there, back = word_errors(said, heard), word_errors(heard, said)
    assert (there.substitutions, there.deletions, there.insertions) == (
        back.substitutions,
        back.insertions,
        back.deletions,
    )


@settings(max_examples=60)
@given(LINES, LINES)
def test_no_alignment_has_fewer_errors(said: str, heard: str) -> None:
    one, two = said.split(), heard.split()

    @cache
    def fewest(i: int, j: int) -> int:
        if i == len(one) or j == len(two):
            return len(one) - i + len(two) - j
        return min(
            fewest(i + 1, j + 1) + (one[i] != two[j]),
            fewest(i + 1, j) + 1,
            fewest(i, j + 1) + 1,
        )

    found = word_errors(said, heard)
    assert found.errors == fewest(0, 0)
    assert len(one) - found.deletions + found.insertions == len(two)


def test_lines_are_pooled_not_averaged() -> None:
    pooled = total([word_errors("a b c d e f g h i", "a b c d e f g h i"), word_errors("yes", "no")])
    assert pooled == WordErrors(10, 1, 0, 0, 2) and pooled.rate == pytest.approx(0.1)
    assert total([]).rate is None
