"""The sanity suite against a scripted judge that looks at the clips and reads the words that it is sent."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from lt_eval.errors import UsageError
from lt_eval.judge.check import TARGETS, CheckResult, check_judge, compared, spoil
from lt_eval.judge.replies import ReplyStore
from lt_eval.records import AnsweredTurn, Conversation, Verdict
from tests.judge.fake_server import FakeOpenAI, dimension_of, says, texts, videos
from tests.judge.talks import fast, talk

TOPICS = {"s1": ("tower", "river", "garden"), "s2": ("bread", "butter", "honey")}
ALL = tuple(dict.fromkeys(name for names in TARGETS.values() for name in names))


class Attentive:
    """Scores 5, and 1 where it notices what the dimension is about. Blind to the dimensions named.

    The words of the talks name their subject and their turn, so that it can read what a real judge would understand.
    """

    def __init__(self, *blind: str) -> None:
        self.blind = blind

    def __call__(self, body: dict[str, Any]) -> httpx.Response:
        dimension = dimension_of(body)
        flawed = dimension not in self.blind and self.notices(dimension, body)
        return says(f"Looked at it. \\boxed{{{1 if flawed else 5}}}")(body)

    def notices(self, dimension: str, body: dict[str, Any]) -> bool:
        lines = re.findall(r"turn (\d+), (user|assistant): \"(.*)\"", texts(body))
        asked = [text for _, side, text in lines if side == "user"]
        said = [text for _, side, text in lines if side == "assistant"]
        if dimension in ("NI", "EA"):
            return any(frames.mean() < 24 for frames in videos(body))
        if dimension == "MVC":
            faces = [frames[0].astype(int) for frames in videos(body)]
            return any(np.abs(face - faces[0]).mean() > 12 for face in faces)
        subjects = list(zip(asked, said, strict=True))
        if dimension == "SR":
            return not any(word in answer for answer in said for word in asked[0].split()[-1:])
        if dimension == "CU":
            return any(question.split()[-1] != answer.split()[-1] for question, answer in subjects)
        return dimension == "IC" and len(set(said)) < len(said)


def conversations(folder: Path) -> list[Conversation]:
    made = []
    for seed, (scenario, words) in enumerate(TOPICS.items()):
        item = talk(folder, "ours", scenario, seed=4 * seed + 1, turns=3)
        turns = tuple(
            replace(turn, user_transcript=f"what of the {word}", transcript=f"{words[0]} and then {word}")
            for turn, word in zip(item.turns, words, strict=True)
        )
        made.append(replace(item, turns=turns))
    return made


def check(tmp_path: Path, judge_: Any) -> dict[tuple[str, str], CheckResult]:
    with ReplyStore(tmp_path / "r.sqlite") as replies:
        results = check_judge(
            conversations(tmp_path),
            fast(dimensions=(*ALL, "OIE")),
            replies,
            tmp_path / "spoilt",
            transport=FakeOpenAI(judge_).transport,
        )
    return {(result.check, result.dimension): result for result in results}


@pytest.fixture(autouse=True)
def clips_here(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("LT_EVAL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def test_an_attentive_judge_passes_every_check(tmp_path: Path) -> None:
    results = check(tmp_path, Attentive())
    targeted = {key: result for key, result in results.items() if result.targeted}
    assert set(targeted) == {(name, dimension) for name, names in TARGETS.items() for dimension in names}
    assert all(result.passed and result.pairs == 2 for result in targeted.values()), targeted
    assert all((result.before, result.after) == (5.0, 1.0) for result in targeted.values())
    assert len(results) == 7 * len(TARGETS)
    assert all((result.before, result.after) == (5.0, 5.0) for key, result in results.items() if key[1] == "OIE")


@pytest.mark.parametrize("blind", ALL)
def test_a_judge_that_does_not_look_fails_just_the_check_of_what_it_missed(tmp_path: Path, blind: str) -> None:
    results = check(tmp_path, Attentive(blind))
    failed = {result.dimension for result in results.values() if result.targeted and not result.passed}
    assert failed == {blind}


def test_each_spoiling_changes_what_it_says_and_nothing_else(tmp_path: Path) -> None:
    one, two = conversations(tmp_path)
    for name in TARGETS:
        for before, after in zip((one, two), spoil(name, [one, two], tmp_path), strict=True):
            assert [turn.user_text for turn in after.turns] == [turn.user_text for turn in before.turns]
            words = [turn.transcript for turn in after.turns] != [turn.transcript for turn in before.turns]
            pictures = [turn.video for turn in after.turns] != [turn.video for turn in before.turns]
            assert (words, pictures) == {
                "blank": (False, True),
                "shuffled": (True, True),
                "swapped": (False, True),
                "wrong": (True, False),
                "repeated": (True, True),
            }[name]
            if name == "shuffled":
                assert sorted(str(turn.video) for turn in after.turns) == sorted(
                    str(turn.video) for turn in before.turns
                )
                assert all(a.video != b.video for a, b in zip(after.turns, before.turns, strict=True))


def test_the_other_conversation_is_about_something_else() -> None:
    def item(method: str, scenario: str) -> Conversation:
        return Conversation("original", f"{method}/{scenario}", (AnsweredTurn("?", transcript=scenario),))

    spoilt = spoil("wrong", [item("a", "s1"), item("b", "s1"), item("a", "s2")], Path())
    assert [conversation.turns[0].transcript for conversation in spoilt] == ["s2", "s2", "s1"]


def test_only_conversations_with_both_scores_are_compared() -> None:
    verdicts = [
        Verdict("original", "x", "SR", 0, "ok", 5.0),
        Verdict("wrong", "x", "SR", 0, "ok", 2.0),
        Verdict("original", "y", "SR", 0, "ok", 4.0),
        Verdict("wrong", "y", "SR", 0, "parse_error"),
    ]
    (result,) = [r for r in compared(verdicts, ("SR",)) if r.check == "wrong"]
    assert (result.before, result.after, result.pairs, result.passed) == (5.0, 2.0, 1, True)
    (result,) = [r for r in compared(verdicts, ("SR",)) if r.check == "blank" and r.dimension == "SR"]
    assert (result.before, result.pairs, result.passed) == (None, 0, False)


def test_too_few_conversations_are_refused(tmp_path: Path) -> None:
    with ReplyStore(tmp_path / "r.sqlite") as replies, pytest.raises(UsageError, match="at least two"):
        check_judge(conversations(tmp_path)[:1], fast(), replies, tmp_path)
