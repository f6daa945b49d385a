"""Transcripts of conversations: heard once, both sides, with the user's errors counted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from lt_eval.errors import UnscorableError
from lt_eval.judge.transcribe.given import Given
from lt_eval.judge.transcribe.hearing import hear
from lt_eval.judge.transcribe.wer import WordErrors
from lt_eval.media.encode import encode
from lt_eval.records import Audio, Conversation
from lt_eval.registry import create
from tests.clips import moving_frames, tone, write_wav
from tests.judge.talks import talk


@dataclass
class Scripted:
    """Hears what it is told, one sound after another."""

    lines: list[str]
    fingerprint: str = "scripted-1"
    heard: list[Audio] = field(default_factory=list)

    def transcribe(self, audio: Audio) -> str:
        self.heard.append(audio)
        text = self.lines[len(self.heard) - 1]
        if text == "!":
            raise UnscorableError("not_transcribed", "it broke")
        return text


def spoken(folder: Path) -> Conversation:
    """A conversation whose user lines are files too."""
    item = talk(folder)
    turns = tuple(
        replace(
            turn,
            user_audio=write_wav(folder / f"user{n}.wav", tone(10 + n, 0.4)),
            user_transcript=None,
            transcript=None,
        )
        for n, turn in enumerate(item.turns)
    )
    return replace(item, turns=turns)


def test_both_sides_are_heard_and_the_users_errors_counted(tmp_path: Path) -> None:
    scripted = Scripted(["tell me about the eiffel power", "it is iron", "where is it", "near the seine"])
    found = hear([spoken(tmp_path)], scripted, folder=tmp_path / "cache")
    (conversation,) = found.conversations
    assert [turn.user_transcript for turn in conversation.turns] == ["tell me about the eiffel power", "where is it"]
    assert [turn.transcript for turn in conversation.turns] == ["it is iron", "near the seine"]
    assert found.user_errors == WordErrors(9, 1, 0, 0, 2) and found.problems == ()
    assert [round(len(audio) / 16_000, 1) for audio in scripted.heard] == [0.4, 1.0, 0.4, 1.0]


def test_a_line_that_two_systems_were_asked_is_one_line(tmp_path: Path) -> None:
    """Otherwise the table would claim the words of twice as many lines."""
    item = spoken(tmp_path)
    once = hear([item], Scripted(list("abcd")), folder=tmp_path / "cache")
    twice = hear([item, replace(item, method="theirs")], Scripted([]), folder=tmp_path / "cache")
    assert once.user_errors.words > 0 and twice.user_errors == once.user_errors


def test_a_sound_is_heard_once_and_by_each_recogniser_for_itself(tmp_path: Path) -> None:
    item = spoken(tmp_path)
    first = hear([item], Scripted(list("abcd")), folder=tmp_path / "cache")
    never = Scripted([])
    assert hear([item], never, folder=tmp_path / "cache") == first and never.heard == []
    other = Scripted(list("wxyz"), "scripted-2")
    assert hear([item], other, folder=tmp_path / "cache") != first and len(other.heard) == 4


def test_a_damaged_transcript_is_heard_again(tmp_path: Path) -> None:
    item = spoken(tmp_path)
    first = hear([item], Scripted(list("abcd")), folder=tmp_path / "cache")
    for path in (tmp_path / "cache").iterdir():
        path.write_text("{")
    assert hear([item], Scripted(list("abcd")), folder=tmp_path / "cache") == first


def test_no_sound_is_nothing_heard_and_a_failure_is_not_transcribed(tmp_path: Path) -> None:
    mute = encode(tmp_path / "mute.mp4", moving_frames(0, 10), 10.0)
    item = spoken(tmp_path)
    first, second = item.turns
    item = replace(item, turns=(replace(first, user_audio=None, video=mute), replace(second, user_audio=None)))
    found = hear([item], Scripted(["!"]), folder=tmp_path / "cache")
    (conversation,) = found.conversations
    assert [turn.transcript for turn in conversation.turns] == ["", None]
    assert [turn.user_transcript for turn in conversation.turns] == [None, None]
    assert found.user_errors.rate is None
    assert found.problems == ("ours s1 turn 2, assistant: it broke",)
    assert not list((tmp_path / "cache").glob("*"))


def test_given_takes_what_is_stated_and_hears_nothing(tmp_path: Path) -> None:
    item = talk(tmp_path)
    found = hear([item], create("transcribers", "given", {}))
    (conversation,) = found.conversations
    assert [turn.user_transcript for turn in conversation.turns] == [turn.user_text for turn in item.turns]
    assert [turn.transcript for turn in conversation.turns] == [turn.transcript for turn in item.turns]
    with pytest.raises(UnscorableError):
        Given().transcribe(tone(0, 0.1))


def test_progress_names_the_conversation_and_not_its_words(tmp_path: Path) -> None:
    told: list[tuple[str, int, int, str]] = []
    hear([spoken(tmp_path)], Scripted(list("abcd")), lambda *step: told.append(step), folder=tmp_path / "cache")
    assert told == [("transcribe", 1, 1, "ours s1")]
