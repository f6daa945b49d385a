"""A journal of work that fills a folder over hours: it survives a kill in mid-line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lt_eval import fingerprint
from lt_eval.store import key_of, storage_error


def journal(path: Path) -> list[Any]:
    """Return what the whole lines of a JSONL file say, and cut off a last one that was torn; [] without a file."""
    if not path.is_file():
        return []
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        os.truncate(path, whole)
    return [json.loads(line) for line in data[:whole].splitlines()]


def of_path(path: Path) -> str:
    """Return what changes with the contents of a file, or of the files that lie in a folder."""
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    return key_of([(file.name, fingerprint.of_file(file)) for file in files])


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
