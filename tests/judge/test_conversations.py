"""Conversations to and from lines of JSON, without a way out of their folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lt_eval.errors import DatasetError
from lt_eval.judge.conversations import read_conversations, write_conversations
from lt_eval.records import AnsweredTurn, Conversation, Failure


def some(folder: Path) -> list[Conversation]:
    turn = AnsweredTurn("Hi", folder / "a.wav", folder / "clips" / "a.mp4", "hi", "hello", 0.5, 0.2, 3.0, 25, 12.5)
    return [
        Conversation("ours", "s1", (turn, AnsweredTurn("And?"))),
        Conversation("ours", "s2", (), Failure("crashed", "no memory")),
    ]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_conversations(tmp_path / "conversations.jsonl", some(tmp_path))
    assert read_conversations(tmp_path) == read_conversations(tmp_path / "conversations.jsonl") == some(tmp_path)
    assert (
        json.loads((tmp_path / "conversations.jsonl").read_text().split("\n")[0])["turns"][0]["video"] == "clips/a.mp4"
    )


def test_a_folder_that_moved_is_read_where_it_is(tmp_path: Path) -> None:
    write_conversations(tmp_path / "old" / "conversations.jsonl", some(tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    assert read_conversations(tmp_path / "new") == some(tmp_path / "new")


@pytest.mark.parametrize("path", ["../secret.mp4", "/etc/passwd", "clips/../../secret.mp4"])
def test_no_path_leaves_the_folder(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "run"
    write_conversations(folder / "conversations.jsonl", some(folder))
    file = folder / "conversations.jsonl"
    file.write_text(file.read_text().replace("clips/a.mp4", path))
    with pytest.raises(DatasetError, match="outside"):
        read_conversations(folder)


def test_nor_does_a_link(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write_conversations(folder / "conversations.jsonl", some(folder))
    (folder / "clips").symlink_to(tmp_path)
    with pytest.raises(DatasetError, match="outside"):
        read_conversations(folder)


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"method": "a", "scenario": "b", "turns": [{"x": 1}]}'])
def test_a_line_that_is_no_conversation_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "conversations.jsonl").write_text(line + "\n")
    with pytest.raises(DatasetError, match="line 1"):
        read_conversations(tmp_path)


def test_nothing_is_an_error(tmp_path: Path) -> None:
    for make in (lambda: None, lambda: (tmp_path / "conversations.jsonl").write_text("\n")):
        make()
        with pytest.raises(DatasetError):
            read_conversations(tmp_path)


def test_files_elsewhere_are_written_whole_and_refused_on_reading(tmp_path: Path) -> None:
    (first, _) = some(tmp_path / "run")
    outside = replace(first, turns=(replace(first.turns[0], video=tmp_path / "x.mp4"),))
    write_conversations(tmp_path / "run" / "conversations.jsonl", [outside])
    with pytest.raises(DatasetError, match="outside"):
        read_conversations(tmp_path / "run")
