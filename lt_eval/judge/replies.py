"""Every raw reply of the judge, kept by content and never asked for twice.

An SQLite file in write-ahead mode. A reply is on the disk when `put` returns; a process killed later has lost nothing,
one killed before it has lost the requests in flight. The key is a hash of everything that can change a reply: served
model and server version, messages with the hashes of the clips in them, sampling and seed. The parser is not part of
it: another parser reads the same replies without asking again.
"""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_eval.errors import StoreError
from lt_eval.store import atomic_write, storage_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Self

_TABLES = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, asked TEXT NOT NULL, raw TEXT NOT NULL, latency_s REAL NOT NULL, created TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS servers (
    asked TEXT PRIMARY KEY, facts TEXT NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Reply:
    """One answer of a server, raw, and what is read from it.

    Attributes:
        key: hash of what was asked.
        asked: what was asked, clips by their hashes.
        raw: the server's JSON.
        latency_s: from request to answer.
        created: UTC time, ISO 8601.
    """

    key: str
    asked: Mapping[str, Any]
    raw: Mapping[str, Any]
    latency_s: float
    created: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))

    @property
    def _choice(self) -> Mapping[str, Any]:
        choices = self.raw.get("choices")
        return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}

    @property
    def text(self) -> str:
        """What the judge wrote; "" where nothing came."""
        message = self._choice.get("message")
        content = message.get("content") if isinstance(message, dict) else None
        return content if isinstance(content, str) else ""

    @property
    def finish_reason(self) -> str:
        """Why it stopped: "stop", "length", "content_filter" ..., or "" where the server did not say."""
        return str(self._choice.get("finish_reason") or "")

    @property
    def refusal(self) -> str:
        """What a server that refuses says beside or instead of a text; "" where it does not refuse."""
        message = self._choice.get("message")
        refusal = message.get("refusal") if isinstance(message, dict) else None
        if isinstance(refusal, str) and refusal:
            return refusal
        return "content filter" if self.finish_reason == "content_filter" else ""

    @property
    def logprobs(self) -> dict[str, float]:
        """Natural log-probability of each token offered for the first position; empty where not asked for."""
        logprobs = self._choice.get("logprobs")
        content = logprobs.get("content") if isinstance(logprobs, dict) else None
        if not isinstance(content, list) or not content:
            return {}
        return {entry["token"]: float(entry["logprob"]) for entry in content[0].get("top_logprobs", [])}

    def usage(self, name: str) -> int | None:
        """Return a count of tokens: prompt_tokens, completion_tokens or cached_tokens; None where not told."""
        usage = self.raw.get("usage")
        if not isinstance(usage, dict):
            return None
        if name == "cached_tokens":
            details = usage.get("prompt_tokens_details")
            usage = details if isinstance(details, dict) else {}
        value = usage.get(name)
        return value if isinstance(value, int) else None

    def to_json(self) -> dict[str, Any]:
        """Return the reply as JSON types, with what is read from it beside the raw answer."""
        read = {name: self.usage(name) for name in ("prompt_tokens", "completion_tokens", "cached_tokens")}
        return {
            "key": self.key,
            "asked": self.asked,
            "text": self.text,
            "finish_reason": self.finish_reason,
            **read,
            "latency_s": self.latency_s,
            "created": self.created,
            "raw": self.raw,
        }


class ReplyStore:
    """The file of replies; use as a context manager. Several processes may hold it at a time.

    Args:
        path: the SQLite file; its folder is made too.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        """Open the file.

        Raises:
            StoreError: it cannot be opened, or is not a file of replies.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._open = sqlite3.connect(self.path, timeout=60.0)
            self._open.execute("PRAGMA journal_mode = WAL")
            self._open.execute("PRAGMA synchronous = FULL")
            self._open.executescript(_TABLES)
        except OSError as cause:
            raise storage_error(self.path, cause) from cause
        except sqlite3.Error as cause:
            self.__exit__()
            raise StoreError(f"{self.path}: not usable as the judge's reply store ({cause}). Move it away.") from cause
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    @property
    def _database(self) -> sqlite3.Connection:
        assert self._open is not None, "use the reply store as a context manager"
        return self._open

    def get(self, key: str) -> Reply | None:
        """Return the reply of a key, or None."""
        row = self._database.execute("SELECT * FROM replies WHERE key = ?", (key,)).fetchone()
        return None if row is None else _reply(row)

    def put(self, reply: Reply) -> None:
        """Keep a reply; when this returns it survives a crash. The first reply of a key stays.

        Raises:
            StoreError: it cannot be written.
        """
        row = (reply.key, _text(reply.asked), _text(reply.raw), reply.latency_s, reply.created)
        self._write("INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?)", row)

    def remember_server(self, asked: str, facts: Mapping[str, str]) -> None:
        """Keep who answered under an address, for reading replies while nobody does."""
        self._write("INSERT OR REPLACE INTO servers VALUES (?, ?)", (asked, _text(facts)))

    def known_server(self, asked: str) -> dict[str, str] | None:
        """Return who answered under an address when it was last asked."""
        row = self._database.execute("SELECT facts FROM servers WHERE asked = ?", (asked,)).fetchone()
        return None if row is None else dict(json.loads(row[0]))

    def __len__(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM replies").fetchone()[0])

    def __iter__(self) -> Iterator[Reply]:
        """Yield every reply in the order of creation, one at a time."""
        for row in self._database.execute("SELECT * FROM replies ORDER BY created, key"):
            yield _reply(row)

    def export_jsonl(self, path: Path) -> int:
        """Write every reply as a line of JSON and return how many."""
        count = 0
        with atomic_write(path) as file:
            for reply in self:
                file.write(json.dumps(reply.to_json(), ensure_ascii=False) + "\n")
                count += 1
        return count

    def _write(self, statement: str, row: tuple[object, ...]) -> None:
        try:
            with self._database:
                self._database.execute(statement, row)
        except sqlite3.Error as cause:
            raise StoreError(
                f"{self.path}: a reply cannot be kept ({cause}). Earlier ones are; mend it and run the command again."
            ) from cause


def _text(data: Mapping[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, sort_keys=True)


def _reply(row: tuple[str, str, str, float, str]) -> Reply:
    return Reply(row[0], json.loads(row[1]), json.loads(row[2]), row[3], row[4])
