"""Rubric files and the parsing of what they ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_eval.errors import SpecError
from lt_eval.judge.rubric import PROMPTS, ScoreFormat, UnparsableError, load_rubrics, prompt_hashes
from lt_eval.records import DIMENSIONS

FORM = ScoreFormat()


def test_every_dimension_has_a_rubric_of_its_own_with_five_levels() -> None:
    rubrics = load_rubrics()
    assert tuple(rubrics) == DIMENSIONS
    assert all((r.format.minimum, r.format.maximum) == (1, 5) for r in rubrics.values())
    assert len(set(prompt_hashes(rubrics).values())) == 9
    assert sorted(path.name for path in PROMPTS.iterdir()) == sorted(f"{name}.md" for name in DIMENSIONS)


def test_a_rubric_asks_in_the_words_of_its_parser() -> None:
    for rubric in load_rubrics().values():
        assert rubric.text.endswith(FORM.instruction) and "\\boxed{score}" in rubric.text


@given(st.text(max_size=200), st.integers(1, 5), st.sampled_from(["", "\n", " .", "\n\nthanks"]))
def test_the_last_box_is_the_score_and_the_rest_before_it_the_rationale(before: str, score: int, after: str) -> None:
    if "\\boxed" in after:
        return
    parsed = FORM.parse(f"{before}\n\\boxed{{{score}}}{after}")
    assert parsed.score == score and parsed.rationale == before.strip()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("four", "no "),
        ("", "no "),
        ("\\boxed{score}", "template"),
        ("\\boxed{4 or 5}", "not one integer"),
        ("\\boxed{4/5}", "not one integer"),
        ("\\boxed{4.5}", "not one integer"),
        ("\\boxed{0}", "not from 1 to 5"),
        ("\\boxed{50}", "not from 1 to 5"),
        ("\\boxed{-1}", "not from 1 to 5"),
        ("\\boxed{}", "not one integer"),
        ("\\boxed{5} but then \\boxed{", "not closed"),
        ("\\boxed{5} in the form \\boxed{score}", "template"),
        ("HTTP 500, 4 tries", "no "),
    ],
)
def test_what_is_no_score_is_not_guessed(text: str, why: str) -> None:
    with pytest.raises(UnparsableError, match=why):
        FORM.parse(text)


def test_whole_numbers_may_be_written_with_a_point_or_spaces() -> None:
    assert FORM.parse("\\boxed{ 4 }").score == FORM.parse("\\boxed{4.0}").score == 4


def test_a_format_of_ten_levels_has_its_own_choices_and_pattern() -> None:
    import re

    form = ScoreFormat(1, 10)
    assert form.choices[-1] == "10"
    assert re.fullmatch(form.regex, "\\boxed{10}") and not re.fullmatch(form.regex, "\\boxed{11}")
    assert all(form.parse(f"\\boxed{{{choice}}}").score == int(choice) for choice in form.choices)


def _edited(tmp_path: Path, old: str, new: str) -> Path:
    text = (PROMPTS / "EA.md").read_text()
    assert old in text
    (tmp_path / "EA.md").write_text(text.replace(old, new))
    return tmp_path


def test_a_rubric_of_ones_own_is_taken_and_has_another_hash(tmp_path: Path) -> None:
    folder = _edited(tmp_path, "Judge how well", "Say how well")
    (own,) = load_rubrics(folder, ["EA"]).values()
    assert own.text.count("Say how well") == 1
    assert own.sha256 != load_rubrics()["EA"].sha256


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("an\ninteger from 1", "a\nnumber from 1", "ends with exactly"),
        ("- 3: ", "- three: ", "consecutive"),
        ("- 3: ", "- 2: ", "consecutive"),
        ("(EA)", "(NI)", "begins with"),
    ],
)
def test_a_rubric_that_does_not_fit_its_parser_is_refused(tmp_path: Path, old: str, new: str, why: str) -> None:
    with pytest.raises(SpecError, match=why):
        load_rubrics(_edited(tmp_path, old, new), ["EA"])


def test_a_missing_rubric_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"NI\.md"):
        load_rubrics(tmp_path, ["NI"])
