"""A journal of work that fills a folder over hours: it survives a kill in mid-line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lt_eval.store import storage_error


def journal(path: Path) -> list[Any]:
    """Return what the whole lines of a JSONL file say, and cut off a last one that was torn; [] without a file."""
    if not path.is_file():
        return []
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        os.truncate(path, whole)
    return [json.loads(line) for line in data[:whole].splitlines()]


def note(path: Path, entries: Iterable[object]) -> None:
    """Append entries to a journal, on the disk when this returns.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(entry) + "\n" for entry in entries))
            file.flush()
            os.fsync(file.fileno())
    except OSError as cause:
        raise storage_error(path, cause) from cause
