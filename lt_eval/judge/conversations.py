"""Conversations as lines of JSON: how a run hands them to the judge's commands.

Paths are relative to the file's folder and cannot leave it.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_eval.errors import DatasetError
from lt_eval.records import AnsweredTurn, Conversation, Failure
from lt_eval.store import atomic_write

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PATHS = ("user_audio", "video")


def read_conversations(path: Path) -> list[Conversation]:
    """Return the conversations of a run's conversations.jsonl, or of a run folder that holds one.

    Raises:
        DatasetError: no such file, a line that is no conversation, or a path that leaves the folder.
    """
    file = path / "conversations.jsonl" if path.is_dir() else path
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as cause:
        raise DatasetError(
            f"{file}: conversations cannot be read ({cause}). `lt-eval multiround` writes conversations.jsonl into its "
            "run folder: name that folder."
        ) from cause
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(_conversation(json.loads(line), file.parent))
            except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as cause:
                raise DatasetError(f"{file}, line {number}: not a conversation of lt-eval ({cause}).") from cause
            except ValueError as cause:
                raise DatasetError(f"{file}, line {number}: {cause}") from cause
    if not found:
        raise DatasetError(f"{file}: holds no conversation.")
    return found


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> None:
    """Write one line a conversation, atomically; files below the folder are named relative to it."""
    with atomic_write(path) as file:
        for conversation in conversations:
            data = dataclasses.asdict(conversation)
            for turn in data["turns"]:
                for name in _PATHS:
                    turn[name] = None if turn[name] is None else _relative(Path(turn[name]), path.parent)
            file.write(json.dumps(data, ensure_ascii=False, allow_nan=False) + "\n")


def _conversation(data: Mapping[str, Any], folder: Path) -> Conversation:
    turns = []
    for turn in data["turns"]:
        paths = {name: _inside(turn[name], folder) for name in _PATHS if turn.get(name) is not None}
        turns.append(AnsweredTurn(**{**turn, **paths}))
    failure = data.get("failure")
    return Conversation(
        str(data["method"]), str(data["scenario"]), tuple(turns), Failure(**failure) if failure else None
    )


def _inside(name: str, folder: Path) -> Path:
    root = folder.resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise ValueError(f"{name!r} lies outside {folder}. A conversation's files lie in the folder of its list.")
    return path


def _relative(path: Path, folder: Path) -> str:
    """Return the path relative to the folder where it lies in it."""
    whole, root = path.resolve(), folder.resolve()
    return str(whole.relative_to(root)) if whole.is_relative_to(root) else str(whole)
