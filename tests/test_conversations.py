"""Conversations and verdicts come back as they were, wherever the folder is moved, and damage is named by its line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lt_eval.conversations import (
    read_conversations,
    read_verdicts,
    write_conversations,
    write_verdicts,
)
from lt_eval.errors import StoreError
from lt_eval.records import AnsweredTurn, Conversation, Failure, Verdict

SEPARATORS = "one\u2028two\u0085three\x0cfour \\boxed{5} \U0001f600"


def conversation(root: Path) -> Conversation:
    turns = (
        AnsweredTurn(SEPARATORS, root / "user" / "1.wav", root / "clips" / "1.mp4", "", None, 1.5, 0.5, 9.0, 240, 25.0),
        AnsweredTurn("bare"),
    )
    return Conversation("ours & co", "tower", turns, Failure("timeout", SEPARATORS))


def test_they_come_back_as_they_were(tmp_path: Path) -> None:
    held = [conversation(tmp_path), Conversation("m", "s", ())]
    write_conversations(tmp_path, held)
    assert read_conversations(tmp_path) == tuple(held)
    verdicts = [Verdict("m", "s", "EA", 1, "ok", 3.0, 3.25, SEPARATORS, "key"), Verdict("m", "s", "NI", 0, "refused")]
    write_verdicts(tmp_path, verdicts)
    assert read_verdicts(tmp_path) == tuple(verdicts)


def test_paths_below_the_folder_move_with_it_and_others_stay(tmp_path: Path) -> None:
    outside = Path("/elsewhere/2.mp4")
    held = conversation(tmp_path / "run")
    held = replace(held, turns=(held.turns[0], replace(held.turns[1], video=outside)))
    write_conversations(tmp_path / "run", [held])
    (tmp_path / "run").rename(tmp_path / "moved")
    (found,) = read_conversations(tmp_path / "moved")
    assert found.turns[0].video == tmp_path / "moved" / "clips" / "1.mp4" and found.turns[1].video == outside


def test_no_file_is_no_conversations(tmp_path: Path) -> None:
    assert read_conversations(tmp_path) == () == read_verdicts(tmp_path)


@pytest.mark.parametrize("line", ["{", "[]", '{"method": "m"}', '{"method": "m", "scenario": "s", "turns": [{}]}', "3"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    write_conversations(tmp_path, [conversation(tmp_path)])
    path = tmp_path / "conversations.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(StoreError, match=r"conversations\.jsonl, line 2: not what lt-eval wrote"):
        read_conversations(tmp_path)
