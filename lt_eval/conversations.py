"""Conversations and verdicts as files of a run folder: one JSON object a line.

    results/RUN/
        conversations.jsonl    all turns of each method and scenario, in the order of the table and of the scenarios
        verdicts.jsonl         one judgment a line

Paths below the run folder are written relative to it, so that the folder can be moved; others stay absolute.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_eval.errors import StoreError
from lt_eval.records import AnsweredTurn, Conversation, Failure, Verdict
from lt_eval.store import atomic_write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeVar

    T = TypeVar("T")

CONVERSATIONS = "conversations.jsonl"
VERDICTS = "verdicts.jsonl"

_PATHS = ("user_audio", "video")


def conversation_to_json(conversation: Conversation, root: Path) -> dict[str, Any]:
    """Return a conversation as JSON types; paths below `root` become relative to it."""
    data = asdict(conversation)
    for turn in data["turns"]:
        for name in _PATHS:
            turn[name] = None if turn[name] is None else _written(turn[name], root)
    return data


def conversation_from_json(data: Mapping[str, Any], root: Path) -> Conversation:
    """Read a conversation as `conversation_to_json` wrote it.

    Raises:
        TypeError, KeyError: it is none.
    """
    turns = []
    for turn in data["turns"]:
        paths = {name: None if turn[name] is None else root / turn[name] for name in _PATHS}
        turns.append(AnsweredTurn(**{**turn, **paths}))
    failure = data["failure"]
    return Conversation(data["method"], data["scenario"], tuple(turns), Failure(**failure) if failure else None)


def write_conversations(root: Path, conversations: Iterable[Conversation]) -> None:
    """Replace conversations.jsonl of a run folder."""
    _write(root / CONVERSATIONS, (conversation_to_json(conversation, root) for conversation in conversations))


def read_conversations(root: Path) -> tuple[Conversation, ...]:
    """Return the conversations of a run folder; none where it has no such file.

    Raises:
        StoreError: the file is not what lt-eval writes.
    """
    return _read(root / CONVERSATIONS, lambda data: conversation_from_json(data, root))


def write_verdicts(root: Path, verdicts: Iterable[Verdict]) -> None:
    """Replace verdicts.jsonl of a run folder."""
    _write(root / VERDICTS, (asdict(verdict) for verdict in verdicts))


def read_verdicts(root: Path) -> tuple[Verdict, ...]:
    """Return the verdicts of a run folder; none where it has no such file.

    Raises:
        StoreError: the file is not what lt-eval writes.
    """
    return _read(root / VERDICTS, lambda data: Verdict(**data))


def _written(path: Path, root: Path) -> str:
    path, root = path.absolute(), root.absolute()
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _write(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    with atomic_write(path) as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")


def _read(path: Path, make: Callable[[Mapping[str, Any]], T]) -> tuple[T, ...]:
    if not path.is_file():
        return ()
    found = []
    # not splitlines(): it would also break at the line separators that a JSON string may hold
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line:
            continue
        try:
            found.append(make(json.loads(line)))
        except (json.JSONDecodeError, TypeError, KeyError, AttributeError) as cause:
            raise StoreError(
                f"{path}, line {number}: not what lt-eval wrote ({type(cause).__name__}: {cause}). Run its command "
                "again: the file is made anew."
            ) from cause
    return tuple(found)
